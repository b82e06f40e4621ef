"""S7: in exact numerics a request gets the same tokens and log-prob bits whatever else the engine does."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from hanok.engine.config import EngineConfig
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Output, Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model

FAMILIES = ("gpt-tiny", "mla-tiny", "moe-tiny", "mamba-tiny", "jamba-tiny", "griffin-tiny")
VARIANTS: list[dict[str, Any]] = [
    {"chunk": 1},
    {"chunk": 7, "max_batch_tokens": 33},
    {"chunk": 64, "page_order": "shuffled"},
    {"num_pages": 9, "page_size": 64, "max_sequences": 32},  # preempts
    {"prefix_cache": False},
    {"prefix_cache": True, "num_pages": 24, "page_size": 64},  # hits, and evicts
    {"speculation": "ngram"},
    {"speculation": {"kind": "ngram", "tokens": 4}, "chunk": 7},
]


def mixed(rng: random.Random, count: int) -> list[Request]:
    """Return requests of all sorts, many with beginnings in common."""
    shared = [rng.randrange(5, 250) for _ in range(140)]
    requests = []
    for number in range(count):
        prompt = shared[: rng.choice((0, 20, 64, 130))] + [rng.randrange(5, 250) for _ in range(rng.randrange(1, 30))]
        sampled = {"temperature": 0.0} if number % 2 else {"temperature": 1.0, "top_p": 0.9, "seed": number}
        requests.append(Request(prompt, rng.randrange(1, 40), ignore_eos=True, logprobs=3, **sampled))
    return requests


def supported(options: dict[str, Any]) -> bool:
    """Say whether this engine has these dials, with these values."""
    try:
        EngineConfig.parse(options, where="test")
    except ValueError:
        return False
    return True


def bits(output: Output) -> tuple[Any, ...]:
    """Return what must be equal to the last bit."""
    return output.tokens, output.logprobs, output.top_logprobs, output.text, output.finish_reason


@pytest.mark.parametrize(
    ("preset", "count"),
    [("llama-tiny", 2), *(pytest.param(name, 125, marks=pytest.mark.slow) for name in ("llama-tiny", *FAMILIES))],
)
def test_alone_and_in_any_company_the_same_bits(llm: LLM, preset: str, count: int) -> None:
    requests = mixed(random.Random(count), count)
    if preset != "llama-tiny":
        config = ModelConfig.preset(preset, vocab=llm.model.config.vocab, context=512)
        llm = LLM(Model(config, seed=3), llm.tokenizer)
    engine = Engine(llm, numerics="exact", max_sequences=1, **({"prefix_cache": False} if _cached() else {}))
    alone = [bits(engine.generate([request])[0]) for request in requests]
    compared = 0
    for options in filter(supported, VARIANTS):
        together = Engine(llm, **{"max_sequences": 32, **options}, numerics="exact").generate(requests)
        assert [bits(output) for output in together] == alone, options
        compared += len(together)
    assert compared >= 4 * count


@pytest.mark.slow
def test_two_threads_change_nothing(llm: LLM) -> None:
    requests = mixed(random.Random(1), 40)
    one = [bits(output) for output in Engine(llm, numerics="exact").generate(requests)]
    torch.set_num_threads(2)
    assert [bits(output) for output in Engine(llm, numerics="exact").generate(requests)] == one


def test_control_fast_numerics_differ_with_the_company(llm: LLM) -> None:
    requests = mixed(random.Random(3), 16)
    alone = Engine(llm, numerics="fast", max_sequences=1)
    together = Engine(llm, numerics="fast", max_sequences=32, chunk=7).generate(requests)
    assert [bits(output) for output in together] != [bits(alone.generate([request])[0]) for request in requests]


def _cached() -> bool:
    return "prefix_cache" in EngineConfig.model_fields
