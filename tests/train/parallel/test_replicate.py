"""Replicas: sums of gradients that do not depend on when a process was started."""

from __future__ import annotations

import pytest
import torch

from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.parallel.config import ParallelConfig
from hanok.train.parallel.local import on_ranks
from hanok.train.parallel.replicate import Replicas
from hanok.train.parallel.team import divide
from hanok.train.parallel.verify import RandomRows, Seen, Trial
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState

DIALS = {"vocab": 48, "dim": 24, "depth": 2, "heads": 2, "kv_heads": 1, "hidden": 40, "context": 16}
RANKS, STEPS = 3, 3


def norms(stop: int) -> list[str]:
    """Take steps on three ranks with a fresh team after `stop` of them; return the norm of each step's gradient."""
    shape = ModelConfig.preset("llama-tiny", **DIALS)
    whole, found = Model(shape, seed=1), []
    source = RandomRows(Trial(shape, rows=6, length=8), 1)
    for steps in (stop, STEPS - stop):
        if not steps:
            continue
        team = divide(whole, ParallelConfig(data=RANKS), LoopConfig())
        optimizer = AdamW(AdamWConfig(lr=1e-30, weight_decay=0.0), team.model)  # gradients are all that may differ
        state = TrainState(team.model, optimizer, team.slice(source), steps)
        state.ranks, state.forward = team.ranks, team.policy
        grads = Grads()
        train(state, NextToken(NextToken.Config()), Constant(Constant.Config()), LoopConfig(), [grads])
        found += grads.seen
    return found


class Grads(Seen):
    """Keeps a hash of every step's summed gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def start(self, state: TrainState) -> None:
        step = state.optimizer.step

        def noting(factor: float) -> None:
            grads = [p.grad.flatten() for p in state.optimizer.parameters if p.grad is not None]
            self.seen.append(str(hash(torch.cat(grads).numpy().tobytes())))
            step(factor)

        state.optimizer.step = noting  # type: ignore[method-assign]


def both() -> list[list[str]]:
    return [norms(0), norms(1)]


@pytest.mark.parametrize("settled", [True, False])
def test_a_fresh_team_adds_up_in_the_same_order(settled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control leaves the order of the buckets to the first real step, as torch does."""
    if not settled:
        monkeypatch.setattr(Replicas, "_settle", lambda self: None)
    whole, restarted = on_ranks(both, RANKS)[0]
    assert len(set(whole)) == STEPS
    assert (whole == restarted) == settled
