"""Products by the kernels: right within rounding, and each row's bits its own whatever stands beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.nn.linear import Linear
from hanok.ops import native
from hanok.ops.matmul import linear
from hanok.ops.native.product import product
from hanok.ops.numerics import numerics

SHAPES = [(64, 48), (96, 37), (33, 16), (5, 3), (160, 100)]  # inputs, outputs: whole tiles and torn ones
KINDS = ["bf16", "int8", "int4"]


def packed(inputs: int, outputs: int, kind: str, bias: bool = True) -> Linear:
    torch.manual_seed(inputs)
    dense = Linear(inputs, outputs, bias=bias)
    torch.nn.init.normal_(dense.weight)
    if dense.bias is not None:
        torch.nn.init.normal_(dense.bias)
    return dense if kind == "dense" else dense.pack(kind)


ROUNDED = {"int8": (512, 32767), "int4": (32, 127)}  # inputs that share a scale, and the largest whole number


def rounded(x: Tensor, kind: str) -> Tensor:
    """Round rows as the kernels do."""
    if kind not in ROUNDED:
        return x
    block, most = ROUNDED[kind]
    blocks = F.pad(x, (0, -x.shape[-1] % block)).unflatten(-1, (-1, block))
    top = blocks.abs().amax(-1, keepdim=True)
    q = (blocks * (torch.full_like(top, most) / top.clamp_min(1e-30))).round()  # most / top is not that division
    return (q * (top / most)).flatten(-2)[..., : x.shape[-1]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_product_is_the_unpacked_one(kernels: Any, kind: str, shape: tuple[int, int]) -> None:
    module, x = packed(*shape, kind), torch.randn(7, shape[0])
    with torch.no_grad():
        got = module(x)
        want = F.linear(rounded(x, kind).double(), module.unpacked().double(), module.bias.double())
    assert (got - want).norm() <= 1e-6 * want.norm()


@pytest.mark.parametrize("shape", [*SHAPES, (800, 101)], ids=str)  # the last: several stretches of inputs
@pytest.mark.parametrize("kind", ["dense", "bf16", "int8"])
@pytest.mark.parametrize("rows", [12, 16, 23, 1300])
def test_many_rows_have_the_bits_of_few(kernels: Any, rows: int, kind: str, shape: tuple[int, int]) -> None:
    """Rows side by side, narrow and whole panels, more than one part; and each output's own sum for a few rows."""
    module, x = packed(*shape, kind), torch.randn(rows, shape[0])
    scale = module.weight_scale if kind == "int8" else None
    for given in (x, x.bfloat16()):
        torch.set_num_threads(2)
        got = product(kernels, given, module.weight, module.bias, scale)
        few = [product(kernels, part, module.weight, module.bias, scale) for part in given.split(11)]
        assert torch.equal(torch.cat(few), got)
    want = F.linear(rounded(x, kind).double(), module.unpacked().double(), module.bias.double())
    assert (product(kernels, x, module.weight, module.bias, scale) - want).norm() <= 1e-6 * want.norm()


def test_rounding_rows_to_16_bits_costs_next_to_nothing(kernels: Any) -> None:
    """Beside what int8 itself costs; of a row with one number a hundred times the others, too."""
    dense, x = packed(700, 64, "dense", bias=False), torch.randn(50, 700)
    x[:25, 3] = 100.0
    module = dense.pack("int8")
    with torch.no_grad():
        want, plain, got = F.linear(x, dense.weight), F.linear(x, module.unpacked()), module(x)
    stored, added = ((a - b).norm() / want.norm() for a, b in ((plain, want), (got, plain)))
    assert 2e-3 < stored < 0.02 and 0 < added < 3e-4


def test_rounding_rows_to_8_bits_costs_less_than_int4_itself(kernels: Any) -> None:
    """The whole error of an int4 product, beside the part of it that rounding the rows adds."""
    dense, x = packed(512, 64, "dense", bias=False), torch.randn(50, 512)
    module = dense.pack("int4")
    with torch.no_grad():
        want, plain, got = F.linear(x, dense.weight), F.linear(x, module.unpacked()), module(x)
    stored, added = ((a - b).norm() / want.norm() for a, b in ((plain, want), (got, plain)))
    assert 0.05 < stored < 0.12 and 0 < added < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["dense", *KINDS])
def test_a_row_is_the_same_alone_among_others_and_on_two_threads(kernels: Any, kind: str, dtype: torch.dtype) -> None:
    module = packed(160, 100, kind).to(dtype)
    x = torch.randn(130, 160).to(dtype)
    with torch.no_grad(), numerics("exact"):
        whole = module(x)
        for first, count in ((0, 1), (3, 2), (47, 3), (48, 1), (90, 40), (129, 1)):
            assert torch.equal(module(x[first : first + count]), whole[first : first + count])
        odd = torch.empty(130 * 160 + 1, dtype=dtype)[1:].view(130, 160).copy_(x)  # lies at another address
        assert torch.equal(module(odd), whole)
        torch.set_num_threads(2)
        assert torch.equal(module(x), whole) and torch.equal(module(x[:1]), whole[:1])


def test_the_librarys_products_do_not_have_that_property(kernels: Any) -> None:
    """Control arm: one call of torch for all rows, and one for each."""
    x, weight = torch.randn(70, 1024), torch.randn(256, 1024)
    whole = F.linear(x, weight)
    assert not all(torch.equal(F.linear(x[i : i + 1], weight), whole[i : i + 1]) for i in range(70))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_training_and_the_engine_have_the_same_bits(kernels: Any, dtype: torch.dtype) -> None:
    x, weight = torch.randn(9, 64).to(dtype), torch.randn(40, 64).to(dtype).requires_grad_()
    with numerics("exact"):
        trained = linear(x.requires_grad_(), weight)
        with torch.inference_mode():
            served = torch.cat([linear(row, weight) for row in x.split(1)])
    assert torch.equal(trained.detach(), served)
    trained.square().sum().backward()
    assert weight.grad is not None and x.grad is not None
    want = torch.autograd.grad(F.linear(x, weight).square().sum(), (x, weight))
    assert all((a - b).norm() <= 0.02 * b.norm() for a, b in zip((x.grad, weight.grad), want, strict=True))


def test_tiles_serve_where_there_are_no_kernels(kernels: Any) -> None:
    x, weight = torch.randn(9, 64), torch.randn(40, 64)
    with numerics("exact"):
        ours = linear(x, weight)
        with native.used(None):
            tiles = linear(x, weight)
    assert (ours - tiles).abs().max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_a_packed_weight(kernels: Any, kind: str) -> None:
    module, x = packed(64, 48, kind), torch.randn(5, 64, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert x.grad is not None and module.bias is not None and module.bias.grad is not None
    assert (x.grad - module.unpacked().sum(0)).abs().max() < 1e-4
    with torch.no_grad():
        assert torch.equal(module(x), y)


@pytest.mark.parametrize("kind", ["dense", *KINDS])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_does_not_become_one(kernels: Any, kind: str, bad: float) -> None:
    module, x = packed(64, 48, kind), torch.randn(3, 64)
    x[1, 40] = bad
    for rows in (x, torch.cat([x, torch.randn(20, 64)])):
        with torch.no_grad(), numerics("exact"):
            y = module(rows)
        assert not y[1].isfinite().any() and y[0].isfinite().all() and y[2:].isfinite().all()


def test_many_callers_at_once_get_their_own_answers(kernels: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    torch.set_num_threads(2)
    x, weight = torch.randn(40, 256), torch.randn(300, 256)
    want = product(kernels, x, weight)

    def again(_: int) -> bool:
        return all(torch.equal(product(kernels, x, weight), want) for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(again, range(8)))
