"""RoPE's frequencies, partial heads and layouts are those of transformers and of recorded values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as apply_interleaved
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions

from hanok.model.families.scaling import read_scaling
from hanok.nn.position.rope import RoPE
from hanok.nn.position.scaling import YarnScaling, yarn_magnitude

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.6, 2.0],
    "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 12.0, 14.0, 16.0],
    "original_max_position_embeddings": 64,
}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 3.0},
    {"rope_type": "llama3", **LLAMA3},
    {"rope_type": "dynamic", "factor": 2.0},
    YARN,
    YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
    YARN | {"truncate": False},
    YARN | {"truncate": True, "attention_factor": 1.7},
    YARN | {"mscale": 0.707, "mscale_all_dim": 1.0},
    YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
    YARN | {"factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 1.0, "mscale_all_dim": 0.0},
    YARN | {"factor": 1.0},
    LONG,
    LONG | {"factor": 2.0},
    LONG | {"attention_factor": 1.3},
]


def rope(scaling: dict[str, Any], head_dim: int, context: int, length: int | None, **more: Any) -> RoPE:
    """Return our RoPE of their parameters, set to a length where the scaling asks for one."""
    ours = read_scaling(scaling, {"max_position_embeddings": context})
    if length is not None and ours is not None and ours["kind"] in ("dynamic", "longrope"):
        ours["length"] = length
    return RoPE(RoPE.Config.parse({"scaling": ours, **more}), head_dim)


@pytest.mark.parametrize("length", [None, 30, 64, 65, 100, 256, 1000])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_frequencies_equal_transformers(scaling: dict[str, Any], theta: float, length: int | None) -> None:
    context = 64 if scaling["rope_type"] == "dynamic" else 256
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=context,
        rope_parameters={"rope_theta": theta, **scaling},
    )
    # Without a length ours is that of the longest sequence the config speaks of, theirs that of a short one.
    theirs = length or (context if scaling["rope_type"] in ("dynamic", "longrope") else None)
    want, size = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"), seq_len=theirs)
    ours = rope(scaling, 16, context, length, theta=theta)
    torch.testing.assert_close(ours.frequencies(), want, rtol=1e-6, atol=0)
    assert ours.config.scaling is not None and ours.config.scaling.magnitude() == pytest.approx(size, rel=1e-12)
    cos, sin = ours.angles(torch.arange(200)[None], torch.float32)
    angle = torch.arange(200)[:, None] * want
    torch.testing.assert_close(cos[0], angle.cos() * size, rtol=0, atol=2e-5)
    torch.testing.assert_close(sin[0], angle.sin() * size, rtol=0, atol=2e-5)


def test_recorded_reference_values(shared_data: Path) -> None:
    cases = json.loads((shared_data / "reference_values.json").read_text())["rope"]
    assert len(cases) == 9
    for name, case in cases.items():
        context, length = case["max_position_embeddings"], case["seq_len"]
        ours = rope(case["params"], case["head_dim"], context, length, theta=case["theta"])
        torch.testing.assert_close(ours.frequencies(), torch.tensor(case["inv_freq"]), rtol=2e-6, atol=0, msg=name)
        assert ours.config.scaling is not None
        assert ours.config.scaling.magnitude() == pytest.approx(case["attention_factor"], rel=1e-9), name


@pytest.mark.parametrize("theta", [10000.0, 500.0])
def test_no_length_depends_on_the_sequence(theta: float) -> None:
    """The rule that is stated: a position's angles are the same, asked for alone, early, late or among others."""
    for scaling in SCALINGS:
        ours = rope(scaling, 16, 256, None, theta=theta)
        alone = [ours.angles(torch.tensor([[p]]), torch.float32) for p in (0, 3, 70, 2000)]
        fresh = rope(scaling, 16, 256, None, theta=theta)
        cos, sin = fresh.angles(torch.arange(3000)[None], torch.float32)
        for p, (c, s) in zip((0, 3, 70, 2000), alone, strict=True):
            assert torch.equal(c[0, 0], cos[0, p]) and torch.equal(s[0, 0], sin[0, p])


def test_yarn_paper_values() -> None:
    """Peng et al. 2023: sqrt(1/t) = 0.1 ln(s) + 1, and 16 gives 1.27726 (section 3.4)."""
    assert yarn_magnitude(16) == pytest.approx(1.2772588722239782)
    assert yarn_magnitude(0.5) == 1.0 and yarn_magnitude(40, 0.707) == pytest.approx(1 + 0.0707 * 3.6888794541)
    ours = YarnScaling(factor=16, original_context=4096).frequencies(10000.0, 128)
    plain = RoPE(RoPE.Config(), 128).frequencies()
    turns = 4096 * plain / (2 * torch.pi)
    torch.testing.assert_close(ours[turns > 40], plain[turns > 40])
    torch.testing.assert_close(ours[turns < 0.8], plain[turns < 0.8] / 16)


@pytest.mark.parametrize(("fraction", "pairs"), [(0.25, 2), (0.2, 2), (0.45, 4), (1.0, 8)])
def test_frequencies_of_partial_heads_are_those_of_gpt_neox(fraction: float, pairs: int) -> None:
    """A fraction of 16 that makes 3 or 7 features turns one more, at the angles of the odd number."""
    config = GPTNeoXConfig(hidden_size=32, num_attention_heads=2, rotary_pct=fraction)
    want, _ = GPTNeoXRotaryEmbedding.compute_default_rope_parameters(config)
    ours = RoPE(RoPE.Config(fraction=fraction), 16)
    assert ours.pairs == pairs
    torch.testing.assert_close(ours.frequencies(), want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [{"fraction": 0.25}, {"dims": 4}, {"fraction": 0.45}, {"fraction": 1.0}], ids=str)
def test_partial_heads_turn_as_in_gpt_neox(options: dict[str, Any]) -> None:
    ours = RoPE(RoPE.Config(**options), 16)
    q, k, positions = torch.randn(2, 9, 3, 16), torch.randn(2, 9, 1, 16), torch.arange(9).expand(2, 9)
    angle = torch.arange(9)[:, None] * ours.frequencies().repeat(2)
    want = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), angle.cos()[None], angle.sin()[None])
    for got, theirs in zip(ours(q, k, positions), want, strict=True):
        torch.testing.assert_close(got, theirs.transpose(1, 2), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours(q, k, positions)[0][..., 2 * ours.pairs :], q[..., 2 * ours.pairs :])


def test_interleaved_pairs_turn_as_in_gptj() -> None:
    ours = RoPE(RoPE.Config(dims=8, layout="interleaved"), 12)
    q, k = torch.randn(2, 9, 3, 12), torch.randn(2, 9, 3, 12)
    sin, cos = create_sinusoidal_positions(9, 8)[None].expand(2, -1, -1).chunk(2, -1)
    for got, x in zip(ours(q, k, torch.arange(9).expand(2, 9)), (q, k), strict=True):
        want = torch.cat((apply_interleaved(x[..., :8], sin, cos), x[..., 8:]), -1)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_layouts_are_one_rotation_of_reordered_features() -> None:
    q = torch.randn(1, 30, 2, 8)
    weave = torch.arange(8).view(2, 4).T.flatten()  # half -> interleaved
    positions = torch.arange(30)[None]
    half = RoPE(RoPE.Config(), 8)(q, q, positions)[0]
    woven = RoPE(RoPE.Config(layout="interleaved"), 8)(q[..., weave], q[..., weave], positions)[0]
    assert torch.equal(half[..., weave], woven)


@pytest.mark.parametrize("config", [{}, {"fraction": 0.5}, {"layout": "interleaved", "dims": 4}], ids=str)
def test_gradient_is_the_rotation_back(config: dict[str, Any]) -> None:
    ours, positions = RoPE(RoPE.Config(**config), 8), torch.tensor([[3, 50, 7]])
    q = torch.randn(1, 3, 2, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ours(x, x, positions), (q,))
