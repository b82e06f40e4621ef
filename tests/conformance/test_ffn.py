"""What every feed-forward network inherits: drop a file in `nn/ffn/` and its cases in `cases/`, and these run on it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.ffn import FFNS
from hanok.ops.numerics import numerics

# One file of cases per network: `cases/ffn_<kind>.py` with a list CASES of specs.
CASES: dict[str, list[dict[str, Any]]] = {
    file.stem.removeprefix("ffn_"): runpy.run_path(str(file))["CASES"]
    for file in sorted((Path(__file__).parent / "cases").glob("ffn_*.py"))
}
FLAT = [case for cases in CASES.values() for case in cases]
DIM = 18


def build(ffn: dict[str, Any], dtype: torch.dtype = torch.float32) -> Model:
    """Return a model of two layers, so that weights start as they do in training."""
    block = {"mixer": {"kind": "gqa", "heads": 3}, "ffn": ffn}
    return Model(ModelConfig.parse({"vocab": 31, "dim": DIM, "depth": 2, "layers": {"block": block}})).to(dtype)


def name(ffn: dict[str, Any]) -> str:
    return " ".join(f"{k}={v['kind'] if isinstance(v, dict) else v}" for k, v in ffn.items())


def test_every_network_has_a_case() -> None:
    assert set(CASES) == set(FFNS)


@pytest.mark.parametrize("ffn", FLAT, ids=name)
def test_config_round_trips(ffn: dict[str, Any]) -> None:
    config = build(ffn).config
    assert ModelConfig.parse(config.to_dict()) == config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("ffn", FLAT, ids=name)
@torch.no_grad()
def test_a_token_does_not_depend_on_its_neighbours(ffn: dict[str, Any], dtype: torch.dtype) -> None:
    network, x = build(ffn, dtype).blocks[0].get_submodule("ffn"), torch.randn(5, 40, DIM).to(dtype)
    with numerics("exact"):
        whole = network(x)
        assert whole.shape == x.shape and whole.dtype == dtype and whole.isfinite().all()
        for part in (x[2:3], x[:, 3:4], x[1:4, 7:30], x.view(1, -1, DIM)[:, 11:12]):
            found = network(part)
            where = (x.view(-1, 1, DIM) == part.reshape(1, -1, DIM)).all(-1).nonzero()[:, 0]
            assert torch.equal(found.view(-1, DIM), whole.view(-1, DIM)[where])
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(network(x), whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ffn", FLAT, ids=name)
def test_gradient_reaches_every_parameter(ffn: dict[str, Any]) -> None:
    model = build(ffn, torch.float64)
    model(torch.randint(0, 31, (4, 30))).square().mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), path
        assert parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("ffn", FLAT, ids=name)
def test_autocast_trains_it(ffn: dict[str, Any]) -> None:
    model, tokens = build(ffn), torch.randint(0, 31, (2, 9))
    want = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(tokens)
    got.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    assert (got - want).float().norm() / want.norm() < 0.1


@pytest.mark.parametrize("ffn", FLAT, ids=name)
def test_widths_are_numbers_in_the_config(ffn: dict[str, Any]) -> None:
    resolved = build(ffn).config.block(0).ffn
    assert (resolved.expert if ffn["kind"] == "moe" else resolved).hidden > 0


@pytest.mark.parametrize(
    ("ffn", "message"),
    [
        ({"kind": "swiglo"}, "did you mean 'swiglu'"),
        ({"kind": "mlp", "activation": "gela"}, "activation.*gelu"),
        ({"kind": "mlp", "hiden": 3}, "unknown key .*hiden"),
        ({"kind": "moe", "experts": 2, "router": {"kind": "topk", "per_token": 3}}, "per_token .3. must not exceed"),
        ({"kind": "moe", "expert": {"kind": "moe"}}, "must be a dense feed-forward network"),
        ({"kind": "moe", "shared_gate": "sigmoid"}, "needs a shared expert"),
        ({"kind": "moe", "router": {"kind": "topkk"}}, "did you mean 'topk'"),
        ({"kind": "moe", "experts": 6, "router": {"kind": "sigmoid_group", "groups": 4}}, "multiple of groups"),
        ({"kind": "moe", "router": {"kind": "switch", "capacity": 3, "factor": 1.0}}, "not both"),
    ],
)
def test_wrong_specs_are_explained(ffn: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(ffn)
