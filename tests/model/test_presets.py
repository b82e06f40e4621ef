"""Presets of models that no library has: their published parameter counts, and what makes them what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.preset import PRESETS
from hanok.model.size import count
from hanok.model.weights import load_model, save_model

# Brown et al. 2020, table D.1 (millions), and the count by formula L (12 d^2 + 13 d) + (V + 2048) d, which leaves out
# the last norm's 2 d.
GPT3 = {
    "125M": (125, 12, 768),
    "350M": (356, 24, 1024),
    "760M": (760, 24, 1536),
    "1.3B": (1320, 24, 2048),
    "2.7B": (2650, 32, 2560),
    "6.7B": (6660, 32, 4096),
    "13B": (12850, 40, 5120),
    "175B": (174600, 96, 12288),
}
# Chowdhery et al. 2022, table 1 (billions), and the count by formula L (512 d h + 512 d + 12 d^2) + 256000 d, which
# leaves out the norms' d each.
PALM = {"8B": (8.63, 32, 4096, 16), "62B": (62.50, 64, 8192, 32), "540B": (540.35, 118, 18432, 48)}


@pytest.mark.parametrize("size", GPT3)
def test_gpt3_has_its_published_parameters(size: str) -> None:
    millions, depth, dim = GPT3[size]
    params = count(ModelConfig.preset("gpt3", size=size)).params
    assert params == depth * (12 * dim**2 + 13 * dim) + (50257 + 2048) * dim + 2 * dim
    assert params / 1e6 == pytest.approx(millions, rel=0.0035)


def test_gpt3_keeps_9_gib_of_keys_and_values() -> None:
    assert count(ModelConfig.preset("gpt3", size="175B")).cache_bytes_per_token("fp16") * 2048 == 9 * 2**30


@pytest.mark.parametrize("size", PALM)
def test_palm_has_its_published_parameters(size: str) -> None:
    billions, depth, dim, heads = PALM[size]
    found = count(ModelConfig.preset("palm", size=size))
    norms = (depth + 1) * dim
    assert found.params == depth * (512 * dim * heads + 512 * dim + 12 * dim**2) + 256000 * dim + norms
    assert found.params / 1e9 == pytest.approx(billions, rel=0.0005)
    assert found.cache_bytes_per_token() == depth * 2 * 256 * 2, "one key head of 256 features"


@torch.no_grad()
def test_a_gpt3_is_saved_as_a_gpt2_that_transformers_computes_alike(tmp_path: Path) -> None:
    model = Model(ModelConfig.preset("gpt3", vocab=97, dim=48, depth=2, heads=3, context=64))
    save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "gpt2"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.randint(0, 97, (2, 64))
    torch.testing.assert_close(model(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_band_bounds_what_every_second_layer_sees() -> None:
    config = ModelConfig.preset("gpt3", vocab=97, dim=48, depth=3, heads=3, context=64, band=8)
    assert [config.block(layer).mixer.window for layer in range(3)] == [None, 8, None]
    with pytest.raises(UsageError, match="no learned vector"):
        Model(config)(torch.zeros(1, 65, dtype=torch.int64))


@torch.no_grad()
def test_palm_is_the_paper_s_function_of_a_larger_table(tmp_path: Path) -> None:
    config = ModelConfig.preset("palm", vocab=97, dim=64, depth=2, heads=3, head_dim=16, context=64)
    model = Model(config).double()
    tokens = torch.randint(0, 97, (2, 20))
    scaled = {"embed": {"scale": 1.0}, "head": {"scale": 64**-0.5}}
    paper = Model(ModelConfig.parse(config.to_dict() | scaled)).double()
    paper.load_state_dict(model.state_dict())
    paper.embed.weight.mul_(64**0.5)
    torch.testing.assert_close(paper(tokens), model(tokens), rtol=0, atol=1e-12)
    assert not [name for name, _ in model.named_parameters() if "bias" in name]
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path)(tokens), model(tokens))


def test_an_unknown_size_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no size '175'; did you mean '175B'"):
        ModelConfig.preset("gpt3", size="175")
    with pytest.raises(UsageError, match="8B, 62B, 540B"):
        ModelConfig.preset("palm", size="huge")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_counted(name: str) -> None:
    assert count(ModelConfig.preset(name)).params > 0
