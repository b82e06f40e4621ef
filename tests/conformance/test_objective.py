"""What every objective inherits: drop a file in `train/objective/` and its cases in `cases/`, and these run on it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.loop import LoopConfig, accumulate
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.policy import context_of
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.state import TrainState

VOCAB = 32
PER_TARGET = ("advantages", "old_logprobs", "reference")  # columns that belong to targets, (B, T) where they have two


@dataclass(frozen=True)
class Case:
    """One objective with options, and a three-line formula of it; the rest says on which model and which batches."""

    spec: dict[str, Any]
    reference: Callable[..., Tensor]
    complete: Callable[[Batch], Batch] = lambda batch: batch
    change: Callable[[ModelConfig], ModelConfig] = lambda config: config
    preset: str = "llama-tiny"
    dials: dict[str, Any] | None = None

    def model(self) -> Model:
        dials = {"vocab": VOCAB, "dim": 16, "depth": 2, "context": 64, **(self.dials or {})}
        return Model(self.change(ModelConfig.preset(self.preset, **dials)), seed=0)

    def objective(self) -> Any:
        kind = OBJECTIVES[self.spec["kind"]]
        return kind(kind.Config.parse(self.spec))

    def batch(self, rows: int = 6, length: int = 9, seed: int = 0) -> Batch:
        """Return a random batch with weights, some of them zero."""
        g = torch.Generator().manual_seed(seed)
        x = torch.randint(0, VOCAB, (rows, length + 1), generator=g)
        weights = torch.rand(rows, length, generator=g) * (torch.rand(rows, length, generator=g) > 0.4)
        weights[:, -1] = 1.0
        return self.complete(Batch(x[:, :-1], x[:, 1:], weights, torch.arange(length).expand(rows, -1)))


def read(file: Path) -> list[Case]:
    found = runpy.run_path(str(file))
    parts = {name: found[name] for name in ("reference", "complete", "change") if name in found}
    return [Case(**case, **parts) for case in found["CASES"]]


FILES = sorted((Path(__file__).parent / "cases").glob("objective_*.py"))
CASES = {file.stem.removeprefix("objective_"): read(file) for file in FILES}
FLAT = [pytest.param(case, id=str(case.spec)) for cases in CASES.values() for case in cases]
EVERY = pytest.mark.parametrize("case", FLAT)


def gradient(model: Model, objective: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the loss and the gradient of all parameters in one row."""
    model.zero_grad()
    loss, _ = objective(model, batch)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def pick(batch: Batch, index: list[int]) -> Batch:
    parts = [x[index] for x in (batch.tokens, batch.targets, batch.weights, batch.positions)]
    return Batch(*parts, None, {key: value[index] for key, value in batch.columns.items()})


def test_every_objective_has_a_case() -> None:
    assert set(CASES) == set(OBJECTIVES)


@EVERY
def test_equals_the_formula(case: Case) -> None:
    objective, model, batch = case.objective(), case.model(), case.batch()
    logits = model.logits(model.hidden(batch.tokens, context_of(model, batch)))
    expected = case.reference(logits, batch, objective.config, model)
    wanted = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    loss, metrics = objective(model, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert all(torch.isfinite(value) and not value.requires_grad for value in metrics.values())
    _, grad = gradient(model, objective, batch)
    flat = torch.cat([g.flatten() for g in wanted if g is not None])
    torch.testing.assert_close(grad, flat, rtol=1e-4, atol=1e-6)


@EVERY
def test_a_column_that_is_missing_is_named(case: Case) -> None:
    objective = case.objective()
    for column in objective.needs:
        batch = case.batch()
        lacking = replace(batch, columns={k: v for k, v in batch.columns.items() if k != column})
        with pytest.raises(UsageError, match=f"column '{column}'"):
            objective(case.model(), lacking)


@EVERY
def test_zero_weight_means_zero_gradient(case: Case) -> None:
    """Change the targets, and what belongs to them, where the weight is zero: nothing may move."""
    objective, model, batch = case.objective(), case.model(), case.batch()
    silent = batch.weights == 0
    assert silent.any()
    other = {
        key: torch.where(silent, torch.randn_like(value), value) if key in PER_TARGET and value.ndim == 2 else value
        for key, value in batch.columns.items()
    }
    changed = replace(batch, targets=torch.where(silent, (batch.targets + 7) % VOCAB, batch.targets), columns=other)
    (loss, grad), (loss2, grad2) = gradient(model, objective, batch), gradient(model, objective, changed)
    assert torch.equal(loss, loss2)
    assert torch.equal(grad, grad2)


@EVERY
def test_padding_changes_nothing(case: Case) -> None:
    """Places at the end of each row and source, with weight zero; what sees all is told that they are apart."""
    objective, model, batch = case.objective(), case.model(), case.batch()

    def pad(x: Tensor, value: int = 0) -> Tensor:
        return F.pad(x, (0, 5), value=value)

    width = batch.tokens.shape[1] + 5
    columns = {key: pad(value) if value.ndim == 2 else value for key, value in batch.columns.items()}
    if "source" in columns:
        columns["source_seen"] = pad(torch.ones(batch.columns["source"].shape))
    apart = (torch.arange(width) >= width - 5).long().expand(len(batch.tokens), -1)
    padded = Batch(
        pad(batch.tokens, 3),
        pad(batch.targets, 3),
        pad(batch.weights),
        torch.arange(width).expand(len(batch.tokens), -1),
        apart if case.preset == "bert" else None,
        columns,
    )
    (loss, grad), (loss2, grad2) = gradient(model, objective, batch), gradient(model, objective, padded)
    torch.testing.assert_close(loss, loss2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, grad2, rtol=1e-4, atol=1e-5)


SPLITS = [[[0, 1], [2, 3, 4, 5]], [[4, 5], [0, 1], [2, 3]], [[4, 5, 0, 1, 2, 3]]]


@EVERY
@pytest.mark.parametrize("parts", SPLITS, ids=str)
def test_accumulation_equals_the_big_batch_within_a_millionth(case: Case, parts: list[list[int]]) -> None:
    """Micro-batches of unequal size, in any order, through the loop: pairs stay together, rows are as they are."""
    objective, batch = case.objective(), case.batch()
    found = []
    for split in ([[0, 1, 2, 3, 4, 5]], parts):
        model = case.model()
        state = TrainState(model, AdamW(AdamWConfig(), model), None, 1)  # type: ignore[arg-type]
        figures = accumulate(state, objective, [pick(batch, rows) for rows in split], LoopConfig())
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((figures, torch.cat(grads).double()))
    (one, whole), (two, pieces) = found
    assert (whole - pieces).norm() <= 1e-6 * whole.norm()
    assert one.keys() == two.keys()
    assert abs(one["loss"] - two["loss"]) <= 1e-6 * abs(one["loss"])


@EVERY
def test_control_a_mean_of_means_is_another_gradient(case: Case) -> None:
    """The invariance above is not trivial: plain averages of the same parts miss by far more than a millionth."""
    objective, model, batch = case.objective(), case.model(), case.batch()
    whole = gradient(model, objective, batch)[1]
    halves = [gradient(model, objective, pick(batch, rows))[1] for rows in ([0, 1], [2, 3, 4, 5])]
    assert (whole - (halves[0] + halves[1]) / 2).norm() > 1e-3 * whole.norm()
