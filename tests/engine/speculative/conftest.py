"""Targets of every kind of memory, small drafts on disk, and a way to run an engine that checks it after every step."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Output, Request
from hanok.engine.stats import Stats
from hanok.model.config import ModelConfig
from hanok.model.model import Model

Build = Callable[..., LLM]
VOCAB = 97
MLA = {"kind": "mla", "heads": 4, "kv_rank": 12, "nope_dim": 8, "rope_dim": 4, "v_dim": 8}
MOE = {"kind": "moe", "experts": 4, "expert": {"kind": "swiglu", "hidden": 24}}


def plain(mixer: dict[str, Any], ffn: dict[str, Any], **more: Any) -> LLM:
    """Return a model of two equal blocks."""
    block = {"mixer": mixer, "ffn": ffn}
    config = {"vocab": VOCAB, "dim": 32, "depth": 2, "context": 128, "layers": {"block": block}, **more}
    return LLM(Model(ModelConfig.parse(config), seed=3))


@pytest.fixture(scope="session")
def target(build: Build) -> Callable[[str], LLM]:
    """Return a function from a kind of memory to a float32 model."""

    def make(kind: str) -> LLM:
        if kind == "mla":
            return plain(MLA, {"kind": "swiglu", "hidden": 40})
        if kind == "moe":
            return plain({"kind": "gqa", "heads": 4, "kv_heads": 2}, MOE)
        if kind == "mtp":
            return plain({"kind": "gqa", "heads": 4}, {"kind": "swiglu", "hidden": 40}, mtp={"depth": 2})
        return build(kind, torch.float32, context=128)

    return make


@pytest.fixture(scope="session")
def drafts(build: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return folders of drafts: of attention, of recurrence, and the gqa target itself, which is always right."""
    folder = tmp_path_factory.mktemp("drafts")
    made = {
        "gqa": build("gqa", torch.float32, context=128, depth=1),
        "rglru": build("rglru", torch.float32, context=96),
    }
    made["same"] = build("gqa", torch.float32, context=128)
    for name, llm in made.items():
        llm.save(folder / name)
    return {name: str(folder / name) for name in made}


@pytest.fixture(scope="session")
def requests() -> list[Request]:
    """Return prompts that repeat themselves, greedy and drawn, of many lengths."""
    rng = random.Random(0)
    made = []
    for at, temperature in enumerate([0.0, 1.0, 0.4, 0.0]):
        words = [rng.randrange(VOCAB) for _ in range(rng.randrange(3, 20))]
        prompt = (words * 3)[: rng.randrange(1, 45)]
        made.append(Request(prompt, rng.randrange(12, 22), temperature=temperature, top_k=9, seed=at, logprobs=2))
    return made


def run(llm: LLM, requests: list[Request], **options: Any) -> tuple[list[Output], Stats]:
    """Let requests arrive at random in a small pool; pools and sequences are checked after every step."""
    small = {"numerics": "exact", "page_order": "shuffled", "chunk": 23, "max_batch_tokens": 60, "num_pages": 5}
    engine = Engine(llm, **{**small, **options})
    rng, waiting = random.Random(1), list(enumerate(requests))
    ids: dict[int, int] = {}
    outputs: dict[int, Output] = {}
    while engine.has_work or waiting:
        while waiting and (not engine.has_work or rng.random() < 0.5):
            at, request = waiting.pop(0)
            ids[engine.add(request)] = at
        for event in engine.step():
            assert event.error is None, event.error
            if event.output is not None:
                outputs[ids[event.id]] = event.output
        engine.check()
        chain = getattr(engine.speculation and engine.speculation.proposer, "chain", None)
        if chain is not None:
            chain.pool.check()
    assert engine.pool.pages_used == 0
    return [outputs[at] for at in range(len(requests))], engine.stats()


def told(output: Output) -> tuple[Any, ...]:
    """Return what a caller learns of a text, without how long it took."""
    return output.tokens, output.logprobs, output.top_logprobs, output.text, output.finish_reason
