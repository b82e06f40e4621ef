"""Stop anywhere and go on: every later loss and the final weights are equal to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import Interrupted
from hanok.core.log import Log
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.bundle import Bundle
from hanok.train.hook import Hook, Record
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.muon import Muon, MuonConfig
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState, resume

LIVES = Path(__file__).with_name("lives.py")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with token shards, a small model, conversations and prompts."""
    path = tmp_path_factory.mktemp("lives")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 5))) for _ in range(60)]
    texts = [" ".join(rng.choices(words, k=12)) for _ in range(120)]
    tokenizer = Tokenizer.train(texts, vocab_size=320)
    (path / "tokens").mkdir()
    tokenizer.save(path / "tokens")
    documents = [tokenizer.encode_document(text) for text in texts]
    size = sum(len(text) for text in texts)
    write_shards(path / "tokens" / "train", documents[:100], vocab_size=tokenizer.vocab_size, num_bytes=size)
    write_shards(path / "tokens" / "valid", documents[100:], vocab_size=tokenizer.vocab_size, num_bytes=size)
    torch.manual_seed(0)
    dials = {"dim": 16, "depth": 2, "heads": 2, "kv_heads": 1, "context": 64}
    model = Model(ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, **dials))
    Bundle(model, tokenizer, CHATS["chatml"]()).save(path / "base")
    turns = [{"messages": _turns(rng.choice(words), rng.choice(words))} for _ in range(40)]
    (path / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turns))
    prompts = [{"prompt": rng.choice(words), "answer": rng.choice(words)} for _ in range(30)]
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    return path


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tries"), [("pretrain", 20), ("sft", 20), ("grpo", 20)])
def test_killed_lives_end_the_same(kind: str, tries: int, work: Path) -> None:
    """SIGKILL at random moments, saves and loads included; real stages, in processes of their own."""
    command = [sys.executable, str(LIVES), str(work), kind, str(tries), str(tries)]
    # Which life finds kernels of our own built already is not what is asked here; they round otherwise than torch.
    env = os.environ | {"HANOK_NATIVE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *killed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(killed) == tries
    assert whole.pop("kills") == 0
    assert sum(life.pop("kills") for life in killed) >= tries  # the test is not blind
    assert all(life == whole for life in killed)


class StopAt(Hook):
    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, state: TrainState, record: Record) -> None:
        if state.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


class Losses(Hook):
    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def after_step(self, state: TrainState, record: Record) -> None:
        self.seen[state.step] = record["loss"]


STEPS = 14


def go(
    build: Callable[..., Model], counting: Any, folder: Path, *, stop: int = 0, forget: str = ""
) -> tuple[bytes, dict[int, float]]:
    """Train in one go or with a stop; `forget` leaves something out of what is restored, for the control."""
    losses = Losses()

    def state() -> TrainState:
        model = build("griffin-tiny", depth=3)
        return TrainState(model, Muon(MuonConfig(), model), counting(), STEPS, rng=Streams(1))

    def run(one: TrainState, *hooks: Hook) -> None:
        kept = [losses, Checkpoint(folder, seconds=1e9), *hooks]
        train(one, NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(accumulate=2), kept)

    current = state()
    if stop:
        with pytest.raises(Interrupted):
            run(current, StopAt(stop))
        current = state()
        fresh = state()
        assert resume(current, folder) is not None
        if forget == "optimizer":
            current.optimizer = Muon(MuonConfig(), current.model)
        elif forget:
            setattr(current, forget, getattr(fresh, forget))
    run(current)
    flat = torch.cat([parameter.detach().flatten() for parameter in current.model.parameters()])
    return flat.numpy().tobytes(), losses.seen


def test_stopping_at_any_step_changes_no_bit(tiny: Callable[..., Model], counting: Any, tmp_path: Path) -> None:
    weights, losses = go(tiny, counting, tmp_path / "whole")
    assert len(losses) == STEPS
    for stop in random.Random(2).sample(range(1, STEPS), 5):
        again, seen = go(tiny, counting, tmp_path / str(stop), stop=stop)
        assert again == weights
        assert seen == losses


@pytest.mark.parametrize("forget", ["optimizer", "source", "step"])
def test_control_what_is_forgotten_shows(
    forget: str, tiny: Callable[..., Model], counting: Any, tmp_path: Path
) -> None:
    weights, losses = go(tiny, counting, tmp_path / "whole")
    again, seen = go(tiny, counting, tmp_path / "part", stop=6, forget=forget)
    assert again != weights
    assert seen != losses


def test_progress_and_metrics_after_a_kill(work: Path, tmp_path: Path) -> None:
    """Records that the checkpoint does not know are written again, once."""
    from hanok.core.log import read_metrics
    from hanok.train.hook.metrics import trim

    log = Log(tmp_path, quiet=True)
    for step in range(1, 8):
        log.metrics(step, loss=1.0)
    trim(tmp_path / "metrics.jsonl", 5)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    trim(tmp_path / "metrics.jsonl", 0)
    assert read_metrics(tmp_path / "metrics.jsonl") == []
