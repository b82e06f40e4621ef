"""What every norm inherits: drop a file in `nn/norm/` and its cases in `cases/`, and these run on it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.norm import NORMS
from hanok.ops.numerics import numerics

# One file of cases per norm: `cases/norm_<kind>.py` with a list CASES of specs.
CASES: dict[str, list[dict[str, Any]]] = {
    file.stem.removeprefix("norm_"): runpy.run_path(str(file))["CASES"]
    for file in sorted((Path(__file__).parent / "cases").glob("norm_*.py"))
}
FLAT = [case for cases in CASES.values() for case in cases]
DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def build(spec: dict[str, Any], dim: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a norm whose learned parts all matter."""
    kind = NORMS[spec["kind"]]
    norm: nn.Module = kind(kind.Config.parse(spec), dim)
    for parameter in norm.parameters():
        parameter.data += 0.3 * torch.randn(dim)
    return norm.to(dtype)


def test_every_norm_has_a_case() -> None:
    assert set(CASES) == set(NORMS)


@pytest.mark.parametrize("spec", FLAT, ids=str)
def test_a_fresh_norm_only_normalises(spec: dict[str, Any]) -> None:
    kind = NORMS[spec["kind"]]
    y = kind(kind.Config.parse(spec | {"eps": 0.0}), 64)(3 * torch.randn(9, 64))
    torch.testing.assert_close(y.square().mean(-1), torch.ones(9))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [1, 7, 64, 100])
@pytest.mark.parametrize("spec", FLAT, ids=str)
@torch.no_grad()
def test_exact_rows_do_not_depend_on_their_batch(spec: dict[str, Any], dim: int, dtype: torch.dtype) -> None:
    norm, x = build(spec, dim, dtype), (5 * torch.randn(6, 41, dim) + 1).to(dtype)
    with numerics("exact"):
        whole = norm(x)
        assert whole.dtype == dtype and whole.shape == x.shape
        for rows, tokens in ((slice(3, 4), slice(0, 1)), (slice(1, 6), slice(7, 40)), (slice(0, 1), slice(0, 41))):
            assert torch.equal(norm(x[rows, tokens]), whole[rows, tokens])
            assert torch.equal(norm(x.transpose(0, 1)[tokens, rows]), whole.transpose(0, 1)[tokens, rows])
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(norm(x), whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("spec", FLAT, ids=str)
def test_gradient_is_right_and_reaches_every_parameter(spec: dict[str, Any], mode: str) -> None:
    norm, x = build(spec, 6, torch.float64), torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    with numerics(mode):
        assert torch.autograd.gradcheck(norm, (x,))
        norm(x).square().sum().backward()
    for path, parameter in norm.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0, path


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("spec", FLAT, ids=str)
@torch.no_grad()
def test_constant_rows_stay_finite(spec: dict[str, Any], mode: str) -> None:
    norm = build(spec, 32)
    with numerics(mode):
        for value in (0.0, 1e-20, 1.0, 1e4):
            assert norm(torch.full((2, 32), value)).isfinite().all(), value


@pytest.mark.parametrize("spec", FLAT, ids=str)
def test_a_model_is_built_of_it(spec: dict[str, Any]) -> None:
    mixer = {"kind": "gqa", "heads": 2, "qk_norm": spec}
    block = {"mixer": mixer, "norm": spec, "ffn": {"kind": "swiglu", "hidden": 16}}
    data = {"vocab": 11, "dim": 12, "depth": 2, "layers": {"block": block}, "norm": spec, "embed": {"norm": spec}}
    config = ModelConfig.parse(data)
    assert ModelConfig.parse(config.to_dict()) == config
    assert Model(config)(torch.randint(0, 11, (2, 5))).isfinite().all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "layernrom"}, "did you mean 'layernorm'"),
        ({"kind": "rmsnorm", "esp": 1e-6}, r"unknown key 'layers\.block\.norm\.esp'"),
        ({"kind": "layernorm", "bias": True}, "'all' or 'none'"),
    ],
)
def test_wrong_specs_are_explained(spec: dict[str, Any], message: str) -> None:
    block = {"mixer": {"kind": "gqa", "heads": 2}, "norm": spec}
    with pytest.raises(UsageError, match=message):
        ModelConfig.parse({"vocab": 11, "dim": 12, "depth": 1, "layers": {"block": block}})
