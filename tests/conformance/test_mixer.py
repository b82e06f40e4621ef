"""What every mixer inherits: drop a file in `nn/mixer/` and its cases in `cases/`, and these run on it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Dense, PerSequence, PerToken
from hanok.nn.mixer import MIXERS
from hanok.ops.numerics import numerics

# One file of cases per mixer: `cases/mixer_<kind>.py` with a list CASES of specs.
CASES: dict[str, list[dict[str, Any]]] = {
    file.stem.removeprefix("mixer_"): runpy.run_path(str(file))["CASES"]
    for file in sorted((Path(__file__).parent / "cases").glob("mixer_*.py"))
}
HYBRID = [CASES["gqa"][0], CASES["rglru"][0], CASES["gqa"][1]]
STACKS = [[case] for cases in CASES.values() for case in cases] + [HYBRID]
FEW = [  # of each mixer the first two
    [case] if at < 2 else pytest.param([case], marks=pytest.mark.slow)
    for cases in CASES.values()
    for at, case in enumerate(cases)
] + [HYBRID]


def config(mixers: list[dict[str, Any]]) -> ModelConfig:
    layers = {f"m{i}": {"mixer": mixer, "ffn": {"kind": "swiglu", "hidden": 40}} for i, mixer in enumerate(mixers)}
    return ModelConfig.parse(
        {"vocab": 31, "dim": 32, "depth": max(2, len(mixers)), "layers": layers, "pattern": list(layers)}
    )


def build(mixers: list[dict[str, Any]], dtype: torch.dtype = torch.float64) -> Model:
    return Model(config(mixers)).to(dtype)


def name(mixers: list[dict[str, Any]]) -> str:
    return "+".join(" ".join(f"{key}={value}" for key, value in mixer.items()) for mixer in mixers)


def test_every_mixer_has_a_case() -> None:
    assert set(CASES) == set(MIXERS)


@pytest.mark.parametrize("mixers", STACKS, ids=name)
def test_strictly_causal(mixers: list[dict[str, Any]]) -> None:
    model, x = build(mixers), torch.randint(0, 31, (1, 12))
    y = x.clone()
    y[0, 7] = (y[0, 7] + 1) % 31
    a, b = model(x), model(y)
    assert torch.equal(a[:, :7], b[:, :7]) and not torch.allclose(a[:, 7:], b[:, 7:])


@pytest.mark.parametrize("mixers", STACKS, ids=name)
def test_gradient_reaches_every_parameter(mixers: list[dict[str, Any]]) -> None:
    model = build(mixers)
    model(torch.randint(0, 31, (2, 9))).square().mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("mixers", FEW, ids=name)
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(mixers: list[dict[str, Any]], mode: str) -> None:
    model, lengths = build(mixers), (5, 17, 11)
    documents = [torch.randint(0, 31, (1, n)) for n in lengths]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    segments = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])[None]
    tokens = torch.cat(documents, 1)
    with numerics(mode):
        packed = model(tokens, Dense(tokens, positions, segments))
        alone = torch.cat([model(document) for document in documents], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-10, atol=1e-10)
    if mode == "exact":
        assert torch.equal(packed, alone)
    assert not torch.allclose(model(tokens), alone), "without segments the documents must differ"


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("mixers", FEW, ids=name)
@torch.no_grad()
def test_exact_bits_do_not_depend_on_the_batch(mixers: list[dict[str, Any]], dtype: torch.dtype) -> None:
    model, x = build(mixers, dtype), torch.randint(0, 31, (7, 50))
    with numerics("exact"):
        whole = model(x)
        for row, length in ((0, 50), (3, 1), (6, 37)):
            assert torch.equal(model(x[row : row + 1, :length]), whole[row : row + 1, :length])


@pytest.mark.parametrize("mixers", STACKS, ids=name)
def test_memory_is_declared(mixers: list[dict[str, Any]]) -> None:
    for memory in build(mixers).memory():
        assert isinstance(memory, PerToken | PerSequence)


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        ({"kind": "gqa", "heads": 3}, "multiple of heads"),
        ({"kind": "gqa", "heads": 4, "kv_heads": 3}, "multiple of kv_heads"),
        ({"kind": "gqa", "heads": 4, "widnow": 3}, "unknown key .*widnow"),
        ({"kind": "gka", "heads": 4}, "did you mean 'gqa'"),
        ({"heads": 4}, "'kind'"),
    ],
)
def test_wrong_specs_are_explained(mixer: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build([mixer])
