"""Optimisers against torch's own, or against the paper's formula written out in numpy; and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.linear import Linear
from hanok.text.batch import Batch
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.objective.policy import Policy
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.base import Growth
from hanok.train.optim.sophia import DrawnTargets, Sophia, SophiaConfig
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState, resume, save_checkpoint

Array = npt.NDArray[np.float64]
Rule = Callable[[Array, Array, dict[str, Any], float], Any]
FLAT = Constant(Constant.Config(warmup=0.0))
STEPS = 12  # more than ten: SOAP turns its bases in step 11
# A side that the first gradient does not span has a basis that rounding decides: those get none.
MOST: dict[str, dict[str, Any]] = {"soap": {"most": 6}}


class Net(nn.Module):
    """Matrices of each orientation, a vector, and a table, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.flat = Linear(5, 8), Linear(8, 5, bias=True), Linear(5, 5)
        self.table = nn.Embedding(7, 5)
        self.double()
        g = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.3, generator=g)


def part(kind: str, model: nn.Module, growth: dict[str, Growth] | None = None, **options: Any) -> Any:
    """Build an optimiser with some options of its own."""
    made = OPTIMIZERS[kind]
    config: PartConfig = made.Config.parse({"kind": kind, **options})
    return made(config, model, growth)


def fill(model: nn.Module, seed: int, scale: float = 1.0) -> None:
    g = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=g, dtype=parameter.dtype)


def lion(p: Array, g: Array, s: dict[str, Any], lr: float) -> Any:
    m = s.get("m", np.zeros_like(g))
    u = np.sign(0.9 * m + 0.1 * g)
    s["m"] = 0.99 * m + 0.01 * g
    return p - lr * u


def adafactor(p: Array, g: Array, s: dict[str, Any], lr: float) -> Any:
    """Algorithms 4 and 5 of the paper, with relative steps and update clipping at 1."""
    t = s["t"] = s.get("t", 0) + 1
    b = 1 - t**-0.8
    if g.ndim == 2:
        s["r"] = b * s.get("r", 0.0) + (1 - b) * (g**2).mean(1)
        s["c"] = b * s.get("c", 0.0) + (1 - b) * (g**2).mean(0)
        v = np.outer(s["r"], s["c"]) / s["r"].mean()
    else:
        v = s["v"] = b * s.get("v", 0.0) + (1 - b) * g**2
    u = g / np.sqrt(v)
    u = u / max(1.0, float(np.sqrt((u**2).mean())))
    return p - max(1e-3, float(np.sqrt((p**2).mean()))) * min(lr, t**-0.5) * u


def soap(p: Array, g: Array, s: dict[str, Any], lr: float) -> Any:
    """Algorithm 3 of the paper; the first step makes the bases, a long side has none, vectors get Adam."""
    b1 = b2 = 0.95
    x = g if g.ndim == 2 else g[:, None]
    products = {"L": (x @ x.T, "ql", 0), "R": (x.T @ x, "qr", 1)}
    sides = [side for side in products if g.ndim == 2 and len(products[side][0]) <= 6]
    if sides and "t" not in s:
        s["t"] = 0
        for side in sides:
            s[side] = (1 - b2) * products[side][0]
            s[products[side][1]] = np.linalg.eigh(s[side])[1][:, ::-1]
        return p
    t = s["t"] = s.get("t", 0) + 1
    ql, qr = s.get("ql", np.eye(x.shape[0])), s.get("qr", np.eye(x.shape[1]))
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * x
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * (ql.T @ x @ qr) ** 2
    n = (ql.T @ s["m"] @ qr) / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + 1e-8)
    out = p - lr * (ql @ n @ qr.T).reshape(p.shape)
    for side in sides:
        product, q, axis = products[side]
        s[side] = b2 * s[side] + (1 - b2) * product
        if t % 10 == 0:
            order = np.argsort(-np.einsum("ij,ik,kj->j", s[q], s[side], s[q]), kind="stable")
            s["v"] = np.take(s["v"], order, axis)
            s[q] = np.linalg.qr(s[side] @ s[q][:, order])[0]
    return out


def sophia(p: Array, g: Array, s: dict[str, Any], lr: float) -> Any:
    """Algorithm 3 of the paper; the curvature here is set by the test, since no probe runs."""
    s["m"] = 0.96 * s.get("m", 0.0) + 0.04 * g
    return p - lr * np.clip(s["m"] / np.maximum(0.05 * s.get("h", np.zeros_like(g)), 1e-12), -1, 1)


RULES: dict[str, Rule] = {"lion": lion, "adafactor": adafactor, "soap": soap, "sophia": sophia}


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("kind", list(RULES))
def test_equals_the_formula(kind: str, decay: float) -> None:
    """Twelve steps in float64, with decoupled decay on matrices only and a rate that changes."""
    model = Net()
    optimizer = part(kind, model, lr=0.05, weight_decay=decay, **MOST.get(kind, {}))
    expected = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    states: dict[str, dict[str, Any]] = {name: {} for name in expected}
    for step in range(STEPS):
        fill(model, step)
        factor = (step + 1) / STEPS
        lr = 0.05 * factor
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            before = expected[name]
            moved = RULES[kind](before, parameter.grad.numpy(), states[name], lr) - before
            still = kind == "soap" and before.ndim == 2 and step == 0
            shrunk = before * (1 - lr * decay) if before.ndim == 2 and not still else before
            expected[name] = shrunk + moved
        optimizer.step(factor)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_adafactor_equals_torch() -> None:
    ours, theirs = Net(), Net()
    optimizer = part("adafactor", ours, lr=0.05, weight_decay=0.1)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim == dims], "weight_decay": decay}
        for dims, decay in ((2, 0.1), (1, 0.0))
    ]
    reference = torch.optim.Adafactor(groups, lr=0.05)
    for step in range(STEPS):
        fill(ours, step)
        fill(theirs, step)
        optimizer.step(1.0)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_adafactor_keeps_a_row_and_a_column() -> None:
    model = nn.Sequential(Linear(300, 200))
    optimizer = part("adafactor", model)
    fill(model, 0)
    optimizer.step(1.0)
    assert sum(tensor.numel() for tensor in optimizer.state()[0].values()) == 500


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_decay_is_decoupled_and_spares_vectors(kind: str) -> None:
    """With the gradient at zero a matrix shrinks by exactly 1 - lr wd, whatever the second moments are."""
    model = Net()
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.5}
    if kind == "muon":
        options["adamw"] = {"kind": "adamw", **options}
    optimizer = part(kind, model, **options)
    if kind == "soap":  # its first step only makes the bases
        fill(model, 0, 0.0)
        optimizer.step(1.0)
    before = [p.detach().clone() for p in model.parameters()]
    fill(model, 0, 0.0)
    optimizer.step(0.5)
    for was, parameter in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach(), was * (0.975 if was.ndim > 1 else 1.0))


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_a_parameter_without_a_gradient(kind: str) -> None:
    """It keeps still (Muon's momentum alone may not: an idle matrix counts as a gradient of zero), all else moves."""
    model = Net()
    optimizer = part(kind, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(3):
        fill(model, step)
        model.table.weight.grad = None
        optimizer.step(1.0)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before) - {"table.weight"}
    assert not any(name.startswith("table.") for name in optimizer.state()[0])
    fill(model, 9)
    optimizer.step(1.0)
    if kind != "soap":
        assert not torch.equal(model.table.weight, before["table.weight"])
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_a_pace_of_a_half_halves_the_step_and_not_the_decay(kind: str) -> None:
    free, slow = Net(), Net()
    start = {name: p.detach().clone() for name, p in free.named_parameters()}
    growth = {name: Growth(pace=0.5) for name in start}
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.3}
    if kind == "muon":
        options["adamw"] = {"kind": "adamw", **options}
    for model, grown in ((free, None), (slow, growth)):
        optimizer = part(kind, model, grown, **options)
        for _ in range(2 if kind == "soap" else 1):
            fill(model, 3)
            optimizer.step(1.0)
    for name, full in free.named_parameters():
        shrunk = start[name] * (1 - 0.01 * 0.3 if start[name].ndim > 1 else 1.0)
        if kind == "soap" and start[name].ndim == 1:
            continue  # has moved twice
        half = dict(slow.named_parameters())[name]
        torch.testing.assert_close(half - shrunk, 0.5 * (full - shrunk), rtol=1e-6, atol=1e-12)


class Reader(nn.Module):
    """A policy in float64 as small as one can be: a table, a matrix, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(11, 6), Linear(6, 6), Linear(6, 11)
        self.double()
        g = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.5, generator=g)

    def hidden(self, tokens: Tensor, ctx: Any = None) -> Tensor:
        return torch.tanh(self.inner(self.embed(tokens)))

    def logits(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.head(hidden)
        return out


class Rows:
    """Twelve rows a step, in batches of any size; some tokens have no weight."""

    def __init__(self, batch: int) -> None:
        self.batch, self.drawn = batch, 0

    def next_batch(self) -> Batch:
        step, row = divmod(self.drawn, 12)
        g = torch.Generator().manual_seed(step)
        x = torch.randint(0, 11, (12, 8), generator=g)
        weights = (torch.rand(12, 7, generator=g) > 0.3).double()
        self.drawn += self.batch
        cut = slice(row, row + self.batch)
        positions = torch.arange(7).expand(self.batch, -1)
        return Batch(x[cut, :-1], x[cut, 1:], weights[cut], positions)

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_accumulation_gives_the_big_batch(kind: str) -> None:
    """Six steps of 12 rows at once, or of 2 rows six times, curvature estimates included."""
    found = []
    for accumulate in (1, 6):
        model = Reader()
        options: dict[str, Any] = {"every": 3} if kind in ("soap", "sophia") else {}
        options |= {"precision": "float32"} if kind == "muon" else MOST.get(kind, {})
        state = TrainState(model, part(kind, model, **options), Rows(12 // accumulate), 6)
        train(state, NextToken(NextToken.Config()), FLAT, LoopConfig(accumulate=accumulate))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    start = torch.cat([p.detach().flatten() for p in Reader().parameters()])
    assert (found[0] - found[1]).norm() < 1e-5 * (found[0] - start).norm()


def test_sophia_looks_at_the_curvature_now_and_then() -> None:
    """The probe's square times the number of tokens is what the paper's estimator says, and the step's gradient is
    untouched by it: its first step equals a sign step of the momentum where the curvature is small.
    """
    model, seen = Reader(), []

    class Spy(Sophia):
        def observe(self, count: float) -> None:
            seen.append((self._steps, count, [p.grad.clone() for p in self.parameters if p.grad is not None]))
            super().observe(count)

    optimizer = Spy(SophiaConfig(every=3), model)
    state = TrainState(model, optimizer, Rows(12), 7)
    train(state, NextToken(NextToken.Config()), FLAT, LoopConfig(clip=None))
    assert [step for step, _, _ in seen] == [0, 3, 6]
    first = Reader()
    batch = Rows(12).next_batch()
    probe = Sophia(SophiaConfig(every=3), first).probe(0)
    assert probe is not None
    probe(first, batch)[0].backward()
    for parameter, grad in zip(first.parameters(), seen[0][2], strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, grad)
    assert seen[0][1] == float(batch.weights.sum())
    kept, expected = 0.99, torch.zeros_like(first.inner.weight)
    for _, count, grads in seen:
        expected = kept * expected + (1 - kept) * count * grads[1] ** 2
    torch.testing.assert_close(optimizer.held(optimizer.slots[1])["curvature"], expected)


def test_the_estimate_is_the_gauss_newton_diagonal() -> None:
    """Averaged over many draws, B q^2 is the diagonal of the mean of J^T (diag p - p p^T) J."""
    model, batch = Reader(), Rows(12).next_batch()
    total = torch.zeros_like(model.head.weight)
    draws = 300
    for seed in range(draws):
        probe = DrawnTargets(seed)
        (q,) = torch.autograd.grad(probe(model, batch)[0], [model.head.weight])
        total += q.square() * float(probe.count(batch))
    with torch.no_grad():
        h = model.hidden(batch.tokens).flatten(0, 1)
        p = model.logits(h).softmax(-1)
        w = batch.weights.flatten()
        # For the head's weight W[v, d] the Jacobian of logit v is h[d], so that the diagonal is p_v (1 - p_v) h_d^2.
        exact = torch.einsum("n,nv,nd->vd", w, p * (1 - p), h.square()) / w.sum()
    assert ((total / draws - exact).abs() / exact).mean() < 0.1


def test_a_refused_step_leaves_sophia_alone() -> None:
    class Broken(NextToken):
        def __call__(self, policy: Policy, batch: Batch) -> Any:
            loss, metrics = super().__call__(policy, batch)
            return loss * float("nan"), metrics

    model = Reader()
    optimizer = Sophia(SophiaConfig(), model)
    state = TrainState(model, optimizer, Rows(12), 2)
    train(state, Broken(NextToken.Config()), FLAT, LoopConfig(patience=5))
    assert state.skipped == 2
    assert optimizer.state() == ({}, {"kind": "sophia", "moved": {}, "steps": 0})


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_a_run_cut_in_two_is_the_whole_run(kind: str, tmp_path: Path) -> None:
    """Through a real checkpoint, in the middle between two curvature estimates or turns of the basis."""

    def start(steps: int) -> TrainState:
        model = Reader()
        options: dict[str, Any] = {"every": 3} if kind in ("soap", "sophia") else {}
        return TrainState(model, part(kind, model, **options), Rows(12), steps)

    whole, first, second = start(9), start(5), start(9)
    train(whole, NextToken(NextToken.Config()), FLAT, LoopConfig())
    train(first, NextToken(NextToken.Config()), FLAT, LoopConfig())
    save_checkpoint(first, tmp_path)
    assert resume(second, tmp_path) is not None
    second.steps = whole.steps
    train(second, NextToken(NextToken.Config()), FLAT, LoopConfig())
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    ours_kept, theirs_kept = second.optimizer.state()[0], whole.optimizer.state()[0]
    assert all(torch.equal(ours_kept[name], theirs_kept[name]) for name in theirs_kept)
