"""What every position scheme inherits: a file in `nn/position/` with its cases in `cases/`, and these run on it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.pool import Pool
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.nn.position import POSITIONS
from hanok.ops.numerics import numerics

# One file of cases per scheme, `cases/position_<kind>.py`: CASES is a list of specs, ACTS says where the scheme acts
# ("embedding", "mixer", "scores", "nowhere"), SHIFTS whether a shift of all positions changes nothing, READS how far.
FOUND = {
    file.stem.removeprefix("position_"): runpy.run_path(str(file))
    for file in sorted((Path(__file__).parent / "cases").glob("position_*.py"))
}
FLAT = [case for found in FOUND.values() for case in found["CASES"]]
HEADS = 3
FEW = [  # of each scheme the first two
    spec if spec in FOUND[spec["kind"]]["CASES"][:2] else pytest.param(spec, marks=pytest.mark.slow) for spec in FLAT
]
Serve = Callable[..., list[Tensor]]


def config(spec: dict[str, Any], depth: int = 2) -> ModelConfig:
    embedded = FOUND[spec["kind"]]["ACTS"] == "embedding"
    mixer = {"kind": "gqa", "heads": HEADS, "head_dim": 8, "position": {"kind": "none"} if embedded else spec}
    block = {"mixer": mixer, "ffn": {"kind": "swiglu", "hidden": 40}}
    embed = {"position": spec} if embedded else {}
    return ModelConfig.parse({"vocab": 31, "dim": 24, "depth": depth, "embed": embed, "layers": {"block": block}})


def build(spec: dict[str, Any], dtype: torch.dtype = torch.float64, depth: int = 2) -> Model:
    return Model(config(spec, depth)).to(dtype)


def at(model: Model, tokens: Tensor, start: int) -> Tensor:
    positions = (torch.arange(tokens.shape[1]) + start).expand(tokens.shape)
    logits: Tensor = model(tokens, Dense(tokens, positions))
    return logits


def test_every_scheme_has_a_case() -> None:
    assert set(FOUND) == set(POSITIONS)


@pytest.mark.parametrize("spec", FLAT, ids=str)
def test_config_round_trips(spec: dict[str, Any]) -> None:
    assert ModelConfig.parse(config(spec).to_dict()) == config(spec)


@pytest.mark.parametrize("spec", FLAT, ids=str)
@torch.no_grad()
def test_order_matters_where_a_scheme_says_so(spec: dict[str, Any]) -> None:
    """To one layer of attention the past is a set; the last token sees its order through positions alone."""
    model, tokens = build(spec, depth=1), torch.randint(0, 31, (1, 12))
    shuffled = tokens[:, [3, 0, 7, 1, 2, 10, 4, 5, 9, 6, 8, 11]]
    same = torch.allclose(model(tokens)[:, -1], model(shuffled)[:, -1], rtol=1e-9, atol=1e-9)
    assert same == (FOUND[spec["kind"]]["ACTS"] == "nowhere")


@pytest.mark.parametrize("spec", FLAT, ids=str)
@torch.no_grad()
def test_a_shift_changes_nothing_where_promised(spec: dict[str, Any]) -> None:
    model, tokens = build(spec), torch.randint(0, 31, (2, 40))
    near, far = at(model, tokens, 0), at(model, tokens, 113)
    # RoPE's angles are float32 numbers, as in published models: a turn at position 113 is known to 1e-5.
    same = torch.allclose(near, far, rtol=1e-4, atol=1e-4)
    assert same == FOUND[spec["kind"]]["SHIFTS"]


@pytest.mark.parametrize("spec", [case for case in FLAT if FOUND[case["kind"]]["ACTS"] == "scores"], ids=str)
def test_biases_depend_on_the_distance_alone(spec: dict[str, Any]) -> None:
    bias = build(spec).blocks[0].get_submodule("mixer").get_submodule("position").bias()  # type: ignore[operator]
    distance = torch.randint(0, 500, (4, 5, 6))
    assert bias(distance).shape == (HEADS, 4, 5, 6)
    assert torch.equal(bias(distance)[:, 1:2, 2:4], bias(distance[1:2, 2:4]))
    assert bias(torch.arange(-20, 300)).isfinite().all(), "keys that are not seen have a distance, too"


@pytest.mark.parametrize("spec", FLAT, ids=str)
@torch.no_grad()
def test_far_beyond_training_it_is_finite_or_says_so(spec: dict[str, Any]) -> None:
    model, tokens, reads = build(spec, torch.float32), torch.randint(0, 31, (1, 20)), FOUND[spec["kind"]]["READS"]
    assert at(model, tokens, reads - 20 if reads < 10**6 else 70_000).isfinite().all()
    if reads < 10**6:
        with pytest.raises(UsageError, match=f"position {reads} has no .*reads {reads} tokens"):
            at(model, tokens, reads - 19)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("spec", FEW, ids=str)
@torch.no_grad()
def test_exact_bits_do_not_depend_on_chunks_or_batch(spec: dict[str, Any], dtype: torch.dtype, serve: Serve) -> None:
    model, tokens = build(spec, dtype), [torch.randint(0, 31, (n,)) for n in (70, 1, 45, 130)]
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        batch = torch.stack([tokens[3], tokens[3].flip(0)])
        assert torch.equal(model(batch)[0], want[3])
        for seed, chunks in enumerate([(1, 2, 33), (7, 64)]):
            pool = Pool(model.memory(), 40, dtype=model.dtype, order="shuffled", seed=seed)
            for got, wanted in zip(serve(model, tokens, pool, seed, chunks), want, strict=True):
                assert torch.equal(got, wanted)


@pytest.mark.parametrize("spec", FLAT, ids=str)
@torch.no_grad()
def test_fast_chunks_agree_with_whole_sequences(spec: dict[str, Any], serve: Serve) -> None:
    model, tokens = build(spec), [torch.randint(0, 31, (n,)) for n in (70, 1, 45)]
    pool = Pool(model.memory(), 40, dtype=model.dtype, order="shuffled", seed=3)
    for got, ids in zip(serve(model, tokens, pool, 3, (1, 5, 32)), tokens, strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spec", FLAT, ids=str)
def test_gradient_reaches_every_parameter(spec: dict[str, Any]) -> None:
    model = build(spec)
    model(torch.randint(0, 31, (2, 200))).square().mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "roep"}, "did you mean 'rope'"),
        ({"kind": "rope", "thtea": 1.0}, "unknown key"),
        ({"kind": "rope", "dims": 5}, "pairs of features: 5 of a head_dim of 8"),
        (
            {"kind": "rope", "fraction": 0.4, "scaling": {"kind": "yarn", "factor": 2, "original_context": 9}},
            "pairs of features: 3 of a head_dim of 8",
        ),
        ({"kind": "rope", "fraction": 0.1}, "pairs of features: 0 of a head_dim of 8"),
        ({"kind": "rope", "dims": 10}, "10 of a head_dim of 8 cannot be rotated"),
        ({"kind": "rope", "dims": 4, "fraction": 0.5}, "fraction or dims, not both"),
        ({"kind": "rope", "scaling": {"kind": "yran"}}, "'linear', 'dynamic', 'yarn', 'llama3', 'longrope'"),
        ({"kind": "rope", "scaling": {"kind": "linear", "factor": 0}}, "greater than 0"),
        (
            {"kind": "rope", "dims": 2, "scaling": {"kind": "dynamic", "factor": 2, "original_context": 9}},
            "at least 4 rotated",
        ),
        (
            {
                "kind": "rope",
                "scaling": {
                    "kind": "longrope",
                    "short_factor": [1],
                    "long_factor": [1],
                    "original_context": 9,
                    "context": 20,
                },
            },
            "1 factors for 4 pairs",
        ),
        ({"kind": "alibi", "steepest": -1}, "greater than 0"),
        ({"kind": "t5", "buckets": 6, "see": "all"}, "multiple of 4"),
        ({"kind": "t5", "buckets": 32, "reach": 16}, "reach"),
        ({"kind": "learned"}, "missing key"),
    ],
    ids=str,
)
def test_wrong_specs_are_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        if spec["kind"] == "learned":
            POSITIONS["learned"].Config.parse(spec)
        block = {"mixer": {"kind": "gqa", "heads": 3, "head_dim": 8, "position": spec}}
        Model(ModelConfig.parse({"vocab": 31, "dim": 24, "depth": 2, "layers": {"block": block}}))
