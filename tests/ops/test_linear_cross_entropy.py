"""Head and cross-entropy in pieces against torch's own functions on whole logits: values, gradients and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hanok.ops.linear_cross_entropy import Losses, Penalty, Projection, cross_entropy, linear_cross_entropy
from hanok.ops.numerics import numerics

N, D, V = 37, 12, 29


def case(dtype: torch.dtype, seed: int = 0, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(N, D, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    b = torch.randn(V, generator=g, dtype=torch.float64).to(dtype).requires_grad_() if bias else None
    weights = torch.rand(N, generator=g) * (torch.rand(N, generator=g) > 0.3)
    return x, weight, b, torch.randint(0, V, (N,), generator=g), weights


def formula(x: Tensor, head: Projection, targets: Tensor, weights: Tensor, penalty: Penalty) -> Tensor:
    """Return the loss as the page says it, with torch's functions alone."""
    logits = head.scale * F.linear(x, head.weight, head.bias)
    logits = logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)
    logp = logits.log_softmax(-1)
    nll = -logp.gather(-1, targets[:, None])[:, 0]
    each = (1 - penalty.smoothing) * nll - penalty.smoothing * logp.mean(-1)
    return ((each + penalty.z * logits.exp().sum(-1).log() ** 2) * weights).sum()


HEADS = [{}, {"scale": 0.3}, {"softcap": 2.0}, {"scale": 3.0, "softcap": 5.0}]
PENALTIES = [Penalty(), Penalty(smoothing=0.1), Penalty(z=1e-2), Penalty(0.2, 0.1)]


@pytest.mark.parametrize(("how", "penalty", "rows"), [*product(HEADS, PENALTIES, [1, 8, 64])], ids=str)
def test_value_and_gradient_equal_the_formula(how: dict[str, float], penalty: Penalty, rows: int) -> None:
    """In float64 to rounding, whatever the size of a piece: one row, pieces that do not divide, all at once."""
    for bias in (True, False):
        x, weight, b, targets, weights = case(torch.float64, bias=bias)
        inputs = [tensor for tensor in (x, weight, b) if tensor is not None]
        head = Projection(weight, b, **how)
        expected = formula(x, head, targets, weights, penalty)
        pieces = linear_cross_entropy(x, head, targets, weights, penalty, rows=rows)
        whole = cross_entropy(head.logits(x), targets, weights, penalty)
        for found in (pieces, whole):
            torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
            grads = torch.autograd.grad(3 * found.loss, inputs)
            reference = torch.autograd.grad(3 * expected, inputs, retain_graph=True)
            torch.testing.assert_close(grads, reference, rtol=1e-10, atol=1e-12)
        for ours, theirs in zip(pieces[1:], whole[1:], strict=True):
            assert not ours.requires_grad and not theirs.requires_grad
        torch.testing.assert_close(pieces.nll, whole.nll, rtol=1e-12, atol=0)
        torch.testing.assert_close(pieces.hits, whole.hits.to(torch.float64))


def test_smoothing_is_that_of_torch() -> None:
    x, weight, b, targets, _ = case(torch.float64)
    theirs = F.cross_entropy(F.linear(x, weight, b), targets, label_smoothing=0.15, reduction="sum")
    ours = linear_cross_entropy(x, Projection(weight, b), targets, torch.ones(N), Penalty(0.15), rows=5)
    torch.testing.assert_close(ours.loss, theirs, rtol=1e-12, atol=0)


def test_tied_weights_get_both_gradients() -> None:
    _, weight, _, targets, weights = case(torch.float64)
    grads = []
    for rows in (None, 4):
        table = weight.detach().clone().requires_grad_()
        x = table[targets] * 2
        head = Projection(table)
        found = (
            cross_entropy(head.logits(x), targets, weights)
            if rows is None
            else linear_cross_entropy(x, head, targets, weights, rows=rows)
        )
        grads.append(torch.autograd.grad(found.loss, table)[0])
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


def test_only_what_is_wanted_is_made() -> None:
    x, weight, b, targets, weights = case(torch.float32)
    with torch.no_grad():
        assert not linear_cross_entropy(x, Projection(weight, b), targets, weights).loss.requires_grad
    frozen = linear_cross_entropy(x, Projection(weight.detach(), b), targets, weights, rows=4)
    frozen.loss.backward()
    assert weight.grad is None and x.grad is not None and b is not None and b.grad is not None
    empty = linear_cross_entropy(x[:0], Projection(weight, b), targets[:0], weights[:0])
    assert empty.loss.item() == 0


def test_autocast_multiplies_in_its_own_format() -> None:
    """Pieces under bfloat16 are as far from float32 as whole logits under bfloat16 are, not further."""
    x, weight, b, targets, weights = case(torch.float32)
    head = Projection(weight, b)

    def grads(found: Losses) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(found.loss, (x, weight))])

    exact = grads(cross_entropy(head.logits(x), targets, weights))
    with torch.autocast("cpu", torch.bfloat16):
        whole = cross_entropy(head.logits(x), targets, weights)
        pieces = linear_cross_entropy(x, head, targets, weights, rows=8)
    torch.testing.assert_close(whole.loss, pieces.loss, rtol=1e-5, atol=0)
    assert 0 < (grads(pieces) - exact).norm() < 1.2 * (grads(whole) - exact).norm()


def test_exact_numerics_hold_in_pieces() -> None:
    """In exact numerics a row's logits do not depend on its piece: the sums of one row at a time are those of all."""
    x, weight, b, targets, _ = case(torch.float32)
    head = Projection(weight, b)
    with numerics("exact"), torch.no_grad():
        whole = [linear_cross_entropy(x, head, targets, torch.eye(N)[i], rows=64).nll for i in range(N)]
        alone = [linear_cross_entropy(x[[i]], head, targets[[i]], torch.ones(1)).nll for i in range(N)]
    assert torch.equal(torch.stack(whole), torch.stack(alone))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    """The guard of the loop must see it."""
    x, weight, b, targets, weights = case(torch.float32)
    with torch.no_grad():
        x[5, 3] = bad
    weights[5] = 1.0
    loss = linear_cross_entropy(x, Projection(weight, b), targets, weights, rows=4).loss
    loss.backward()
    assert not loss.isfinite() and x.grad is not None and not x.grad[5].isfinite().all()


PROGRAM = """
import json, resource, sys, torch
from hanok.ops.linear_cross_entropy import Projection, cross_entropy, linear_cross_entropy
torch.set_num_threads(1)
n, d, v = 2048, 32, 16384
x = torch.randn(n, d).requires_grad_()
head = Projection((0.1 * torch.randn(v, d)).requires_grad_())
targets, weights = torch.randint(0, v, (n,)), torch.ones(n)
def step(n, how):
    rows = slice(0, n)
    if how == "pieces":
        found = linear_cross_entropy(x[rows], head, targets[rows], weights[rows])
    else:
        found = cross_entropy(head.logits(x[rows]), targets[rows], weights[rows])
    found.loss.backward()
peaks = []
for rows, how in ((8, "whole"), (8, "pieces"), (n, "pieces"), (n, "whole")):  # the first two load the libraries
    step(rows, how)
    peaks.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (4 * n * v))
print(json.dumps({"pieces": peaks[2] - peaks[1], "whole": peaks[3] - peaks[1]}))
"""


@pytest.mark.slow
def test_memory_of_a_process() -> None:
    """The peak of a process, in units of the logits: whole ones cost three times their size, pieces a fraction."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["whole"] > 2.5
    assert found["pieces"] < 1


class Largest(TorchDispatchMode):
    """Notes the most numbers that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [part.numel() for part in tree_leaves(out) if isinstance(part, Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return out


def test_no_operation_returns_all_logits() -> None:
    x, weight, b, targets, weights = case(torch.float32)
    head = Projection(weight, b)
    with Largest() as pieces:
        linear_cross_entropy(x, head, targets, weights, Penalty(0.1, 0.1), rows=4).loss.backward()
    assert pieces.numbers == max(4 * V, N * D, V * D)
    with Largest() as whole:
        cross_entropy(head.logits(x), targets, weights).loss.backward()
    assert whole.numbers == N * V  # the control
