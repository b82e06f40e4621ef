"""A run that goes on under another layout each time: nothing that a checkpoint holds is lost, and the losses go on."""

from __future__ import annotations

import hashlib
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.train.checkpoint.file import Shelf
from hanok.train.ema import EMA, EMAConfig
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.parallel.config import ParallelConfig
from hanok.train.parallel.local import on_ranks
from hanok.train.parallel.team import divide
from hanok.train.parallel.verify import RandomRows, Seen, Trial
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState, resume, save_checkpoint

DIALS = {"vocab": 64, "dim": 32, "depth": 4, "heads": 4, "kv_heads": 2, "hidden": 64, "context": 64}
STEPS = 2  # in each life


class Steps(RandomRows):
    """Rows whose position counts steps, whatever number of micro-batches these are read in."""

    def state(self) -> dict[str, Any]:
        return {"steps": self.step // self.micro}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["steps"] * self.micro


def live(folder: Path, kind: str, optimizer: str, layout: dict[str, int], micro: int) -> dict[str, Any]:
    """Resume, save what was found elsewhere, take two steps and save; return what rank 0 saw."""
    torch.manual_seed(0)
    shape = ModelConfig.preset(kind, **DIALS)
    parallel, loop = ParallelConfig(**layout), LoopConfig(accumulate=micro)
    model: Any = Model(shape, seed=1)
    source: Any = Steps(Trial(shape, rows=8, length=16), micro)
    more: dict[str, Any] = {}
    if parallel.size > 1:
        team = divide(model, parallel, loop)
        model, source = team.model, team.slice(source)
        more = {"ranks": team.ranks, "forward": team.policy}
    part = OPTIMIZERS[optimizer]
    state = TrainState(model, part(part.Config(lr=1e-3), model), source, 0, **more)
    average = EMA(EMAConfig(decay=0.9), model)
    state.extra["ema"] = average
    found = resume(state, folder / "run", print)
    loaded = "" if found is None else str(save_checkpoint(state, folder / f"loaded-{state.step}"))
    state.steps = state.step + STEPS
    seen = Seen()
    train(state, NextToken(NextToken.Config()), Constant(Constant.Config()), loop, [seen, average])
    return {"loaded": loaded, "saved": str(save_checkpoint(state, folder / "run", keep=99)), "losses": seen.losses}


def contents(path: Path) -> str:
    """Return a hash of every whole tensor in a checkpoint, however many files it lies in."""
    found = hashlib.sha256()
    for kind in ("model", "optimizer", "extra"):
        shelf = Shelf(sorted(path.glob(f"{kind}-*.safetensors")))
        for name in sorted(shelf):
            tensor = shelf[name]
            found.update(f"{kind} {name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


CHAINS: dict[str, tuple[str, str, list[dict[str, int]]]] = {
    "two and back": ("llama-tiny", "adamw", [{}, {"shard": 2}, {}]),
    "dense": (
        "llama-tiny",
        "adamw",
        [{}, {"data": 2}, {"shard": 4}, {"tensor": 2, "data": 2}, {"pipeline": 2}, {"shard": 2, "tensor": 2}, {}],
    ),
    "experts": ("moe-tiny", "adamw", [{}, {"expert": 2}, {"shard": 4}, {"expert": 2, "data": 2}, {"tensor": 2}, {}]),
    **{name: ("llama-tiny", name, [{}, {"shard": 2}, {}]) for name in OPTIMIZERS if name not in ("adamw", "muon")},
    "muon": ("llama-tiny", "muon", [{}, {"shard": 2}, {"tensor": 2, "shard": 2}, {"data": 2}, {}]),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in CHAINS])
def test_layouts_hand_on_all_that_a_run_has(name: str, tmp_path: Path) -> None:
    """Weights, moments and average are the same bits after each change; losses are one process's within rounding."""
    kind, optimizer, layouts = CHAINS[name]
    micro = 4 if kind == "moe-tiny" else 1  # a balance loss is that of the rows that are computed together
    found, alone = [], []
    for layout in layouts:
        size = ParallelConfig(**layout).size
        rows = ParallelConfig(**{k: v for k, v in layout.items() if k in ("data", "shard", "expert")}).size
        found.append(on_ranks(partial(live, tmp_path, kind, optimizer, layout, max(1, micro // rows)), size)[0])
        alone.append(on_ranks(partial(live, tmp_path / "alone", kind, optimizer, {}, micro), 1)[0])
    for before, after in pairwise(found):
        assert contents(Path(after["loaded"])) == contents(Path(before["saved"])) != contents(Path(after["saved"]))
    losses = [torch.tensor([loss for life in lives for loss in life["losses"]]) for lives in (found, alone)]
    worst = float((losses[0] - losses[1]).abs().max())
    print(f"{name}: losses of {len(losses[0])} steps differ by at most {worst:.1e}")
    # Muon multiplies in bfloat16; by signs, a gradient that is nearly zero may go either way.
    assert worst < (1e-5 if optimizer == "adamw" else 1e-3)


def test_the_hash_can_tell(tmp_path: Path) -> None:
    state = on_ranks(partial(live, tmp_path, "llama-tiny", "adamw", {}, 1), 1)[0]
    again = on_ranks(partial(live, tmp_path, "llama-tiny", "adamw", {}, 1), 1)[0]
    assert contents(Path(state["saved"])) != contents(Path(again["saved"]))
