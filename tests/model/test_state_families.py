"""Mamba, Mamba-2 and Jamba at their published sizes, what one program's file says in another's words, hostile files."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.model import Model
from hanok.model.size import count
from hanok.nn.context import PerSequence, PerToken

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
MAMBAS = {  # layers, width, parameters: state-spaces/mamba
    "130M": (24, 768, 129_135_360),
    "370M": (48, 1024, 371_516_416),
    "790M": (48, 1536, 793_204_224),
    "1.4B": (48, 2048, 1_372_178_432),
    "2.8B": (64, 2560, 2_768_345_600),
}


def read(kind: str, **theirs: Any) -> ModelConfig:
    config: ModelConfig = FAMILIES[kind].read_config({"model_type": kind, **theirs})
    return config


@pytest.mark.parametrize("name", MAMBAS)
def test_mamba_has_its_published_size(name: str) -> None:
    layers, dim, params = MAMBAS[name]
    size = count(read("mamba", vocab_size=50280, hidden_size=dim, num_hidden_layers=layers))
    assert size.params == params and size.cache_numbers == 0
    assert size.state_bytes == 4 * layers * 2 * dim * (16 + 3)  # float32: d_state and d_conv - 1 per channel


def test_mamba2_has_the_size_of_the_reference() -> None:
    """The configuration of Mamba-Codestral 7B."""
    theirs = transformers.Mamba2Config()
    with torch.device("meta"):
        want = sum(p.numel() for p in transformers.Mamba2ForCausalLM(theirs).parameters())
    size = count(read("mamba2", **theirs.to_dict()))
    assert size.params == want == 7_285_403_648
    assert size.state_bytes == 4 * 64 * (8192 * 128 + 3 * (8192 + 2 * 8 * 128))


def test_jamba_has_its_published_size() -> None:
    config = read("jamba", vocab_size=65536, hidden_size=4096, num_hidden_layers=32)
    model, size = Model(config, device="meta"), count(config)
    assert size.params == 51_570_323_328
    assert size.cache_bytes_per_token("bf16") == 16384  # 4 GB at 256K tokens
    memory = model.memory()
    assert [i for i, m in enumerate(memory) if isinstance(m, PerToken)] == [4, 12, 20, 28]
    assert sum(isinstance(m, PerSequence) for m in memory) == 28


def test_jamba_says_the_pattern_in_four_templates() -> None:
    config = read("jamba", vocab_size=9, hidden_size=32, num_hidden_layers=8, **HEADS)
    assert config.pattern == ("mamba", "mamba_experts") * 2 + ("attention", "mamba_experts", "mamba", "mamba_experts")
    kinds = [(config.block(i).mixer.kind, config.block(i).ffn.kind) for i in range(8)]
    assert kinds.count(("gqa", "swiglu")) == 1 and sum(ffn == "moe" for _, ffn in kinds) == 4


def test_a_pattern_that_two_periods_cannot_say_is_not_jamba() -> None:
    config = read("jamba", vocab_size=9, hidden_size=32, num_hidden_layers=8, **HEADS)
    turned = ModelConfig.parse({**config.to_dict(), "pattern": ["mamba", "mamba", "attention", "mamba", "attention"]})
    assert FAMILIES["jamba"].write_config(config) and FAMILIES["jamba"].write_config(turned) is None


def test_a_width_that_is_no_multiple_is_not_mamba() -> None:
    config = read("mamba", vocab_size=9, hidden_size=32, num_hidden_layers=1).to_dict()
    config["layers"]["block"]["mixer"]["width"] = 70
    assert FAMILIES["mamba"].write_config(ModelConfig.parse(config)) is None


@pytest.mark.parametrize("high", [float("inf"), {"__float__": "Infinity"}])
def test_no_upper_limit_is_said_in_two_ways(high: Any) -> None:
    sizes = {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 1, "num_heads": 1, "n_groups": 1}
    config = read("mamba2", **sizes, time_step_limit=[0.0, high])
    assert config.layers["block"].mixer.limit == (0.0, None)
    written = FAMILIES["mamba2"].write_config(config)
    assert written and written["time_step_limit"] == [0.0, {"__float__": "Infinity"}]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("mamba", {"hidden_act": "gelu"}, "hidden_act"),
        ("mamba", {"expand": "2"}, "expand"),
        ("mamba", {"time_step_rank": [3]}, "rank of the step"),
        ("mamba2", {"num_heads": 3}, r"num_heads \(3\) \* head_dim \(16\) must be the inner width, 64"),
        ("mamba2", {"time_step_limit": 7}, "time_step_limit"),
        ("jamba", {"num_experts": "many"}, "num_experts"),
        ("jamba", {"attn_layer_period": 0}, "attn_layer_period"),
        ("jamba", {"attn_layer_period": 10**9, "expert_layer_period": 10**9 + 1}, "repeat only after"),
    ],
)
def test_wrong_values_are_named(kind: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(kind, **{**BASES[kind], **change})


BASES: dict[str, dict[str, Any]] = {
    "mamba": {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 2},
    "mamba2": {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16},
    "jamba": {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 2, **HEADS},
}
RUBBISH = [
    None,
    True,
    -1,
    0,
    3,
    1.5,
    10**30,
    float("inf"),
    float("nan"),
    "",
    "auto",
    "x",
    [],
    [1],
    [1, 2],
    {},
    {"a": 1},
]


@pytest.mark.parametrize("count", [400, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", BASES)
def test_rubbish_is_a_usage_error_or_a_config(kind: str, count: int) -> None:
    """Nothing but a `UsageError` comes of any value under any key, and nothing takes long."""
    rng, family = random.Random(0), FAMILIES[kind]
    theirs = family.write_config(read(kind, **{**BASES[kind], "n_groups": 1}))
    assert theirs
    refused = 0
    for _ in range(count):
        damaged = dict(theirs)
        for key in rng.sample(sorted(theirs), rng.choice((1, 1, 2))):
            if rng.random() < 0.1:
                del damaged[key]
            else:
                damaged[key] = rng.choice(RUBBISH)
        try:
            family.read_config(damaged)
        except UsageError:
            refused += 1
    assert count // 3 < refused < count
