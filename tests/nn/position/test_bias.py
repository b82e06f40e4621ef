"""ALiBi's and T5's biases are those of transformers, and fixed tables those of the papers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import count, stored
from hanok.nn.position.alibi import ALiBi, slopes
from hanok.nn.position.learned import LearnedPosition
from hanok.nn.position.sinusoidal import SinusoidalPosition
from hanok.nn.position.t5 import T5Bias

LENGTH = 70
BACK = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 8, 12, 16, 20, 71, 112])
def test_alibi_is_that_of_bloom_and_mpt(heads: int) -> None:
    bias = ALiBi(ALiBi.Config(), 8, heads).bias()(BACK)
    seen = BACK >= 0
    theirs = build_alibi_tensor(torch.ones(1, LENGTH, dtype=torch.long), heads, torch.float32)
    mosaic = build_mpt_alibi_tensor(heads, LENGTH)
    # Theirs grow with the key's position; a softmax over keys sees differences within a row alone.
    for grown in (theirs, mosaic):
        want = (grown - grown[..., -1:]) + torch.tensor(slopes(heads))[:, None, None] * (LENGTH - 1 - BACK[:, :1])
        torch.testing.assert_close(bias[:, seen], want.expand(heads, LENGTH, LENGTH)[:, seen], rtol=1e-4, atol=1e-4)


def test_alibi_slopes_are_the_recorded_ones(shared_data: Path) -> None:
    recorded = json.loads((shared_data / "reference_values.json").read_text())["alibi_slopes"]
    for heads, values in recorded.items():
        assert slopes(int(heads)) == pytest.approx(values, rel=2e-6)


def test_alibi_options() -> None:
    steep = build_mpt_alibi_tensor(6, LENGTH, alibi_bias_max=4)
    ours = ALiBi(ALiBi.Config(steepest=4.0), 8, 6).bias()(BACK)
    torch.testing.assert_close(ours[:, -1], steep[:, 0], rtol=1e-5, atol=1e-5)
    half = ALiBi(ALiBi.Config(steepest=4.0, scale=0.5), 8, 6).bias()(BACK)
    assert torch.equal(half, ours / 2) and torch.equal(ours, ours.transpose(1, 2)), "both directions fall alike"


@pytest.mark.parametrize("see", ["past", "all"])
@pytest.mark.parametrize("buckets", [4, 8, 12, 32, 64])
@pytest.mark.parametrize("reach", [33, 64, 100, 128, 512])
def test_t5_buckets_and_biases(buckets: int, reach: int, see: str) -> None:
    config = transformers.T5Config(
        d_model=16,
        d_kv=4,
        num_heads=5,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=reach,
        is_decoder=see == "past",
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = T5Bias(T5Bias.Config(buckets=buckets, reach=reach, see=see), 4, 5)
    ours.weight.data.copy_(theirs.relative_attention_bias.weight)
    far = torch.arange(-700, 700)
    want = T5Attention._relative_position_bucket(-far, see == "all", buckets, reach)
    assert torch.equal(ours.bucket(far), want)
    bias = theirs.compute_bias(LENGTH, LENGTH)[0]
    assert torch.equal(ours.bias()(BACK), bias)


def test_a_stack_shares_one_table_of_biases() -> None:
    block = {"mixer": {"kind": "gqa", "heads": 3, "position": "t5"}, "ffn": {"kind": "swiglu", "hidden": 16}}
    config = ModelConfig.parse({"vocab": 11, "dim": 12, "depth": 4, "layers": {"block": block}})
    model = Model(config)
    assert [name for name in stored(model) if "position" in name] == ["blocks.0.mixer.position.weight"]
    without = config.to_dict()
    without["layers"]["block"]["mixer"]["position"] = {"kind": "none"}
    assert count(config).params - count(ModelConfig.parse(without)).params == 32 * 3
    model(torch.randint(0, 11, (1, 9))).sum().backward()


@pytest.mark.parametrize("width", [8, 9, 64])
def test_sinusoids_are_those_of_the_paper(width: int) -> None:
    ours = SinusoidalPosition(SinusoidalPosition.Config(), width)
    positions = torch.tensor([[0, 1, 17, 1023, 1024, 5000]])
    got = ours.add(torch.zeros(1, 6, width), positions)
    for row, position in enumerate(positions[0].tolist()):
        for i in range(width):
            wave = math.sin if i % 2 == 0 else math.cos
            assert float(got[0, row, i]) == pytest.approx(wave(position / 10000 ** (2 * (i // 2) / width)), abs=1e-6)


def test_sinusoids_in_halves_are_those_of_marian() -> None:
    theirs = transformers.models.marian.modeling_marian.MarianSinusoidalPositionalEmbedding(50, 12)
    theirs.weight.data.copy_(theirs.create_weight())
    ours = SinusoidalPosition(SinusoidalPosition.Config(layout="half"), 12)
    x = torch.randn(2, 50, 12)
    torch.testing.assert_close(ours.add(x, torch.arange(50).expand(2, 50)), x + theirs.weight, rtol=0, atol=1e-6)


def test_learned_vectors_are_rows_of_the_table() -> None:
    ours = LearnedPosition(LearnedPosition.Config(length=6, offset=2), 4)
    ours.reset(torch.Generator().manual_seed(0))
    x, positions = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2], [5, 3, 0]])
    want = x + torch.stack([torch.stack([ours.weight[p + 2] for p in row]) for row in positions.tolist()])
    assert torch.equal(ours.add(x, positions), want)
    with pytest.raises(UsageError, match="position 6 has no learned vector: this model reads 6 tokens"):
        ours.add(x, positions + 1)
