"""Families in LLaMA's layout: what absent keys mean, what is refused, published sizes, and layers that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.families.pattern import shortest
from hanok.model.model import Model
from hanok.model.size import count
from hanok.model.weights import load_model, save_model

SIZES = {"vocab_size": 31, "hidden_size": 32, "num_hidden_layers": 7, "num_attention_heads": 16}
INNER = {"intermediate_size": 20, "moe_intermediate_size": 12}
NAMES = ["gemma", "gemma2", "gemma3_text", "gpt_oss", "mistral", "mixtral", "olmo", "olmo2", "olmoe"]
NAMES += ["qwen2", "qwen2_moe", "qwen3", "qwen3_moe"]


def tiny(family: str, **changes: Any) -> dict[str, Any]:
    return SIZES | INNER | {"model_type": family, "num_key_value_heads": 4} | changes


@pytest.mark.parametrize("family", NAMES)
def test_absent_keys_mean_what_they_mean_to_transformers(family: str) -> None:
    """But for rotary scaling and key heads, which both are given where the default would not fit 16 heads."""
    for given in (tiny(family), SIZES | INNER):
        if family in ("qwen2", "qwen3") and "num_key_value_heads" not in given:
            given = given | {"num_attention_heads": 32}
        full = transformers.AutoConfig.for_model(family, **{k: v for k, v in given.items() if k != "model_type"})
        read = FAMILIES[family].read_config
        assert read(given) == read(full.to_dict())


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("mistral", {"layer_types": ["sliding_attention"] * 7}, "layer_types"),
        ("mistral", {"attention_dropout": 0.1}, "attention_dropout"),
        ("mistral", {"hidden_act": "tanh"}, "hidden_act = 'tanh' .* silu, gelu"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 7}, "use_sliding_window"),
        ("qwen2", {"layer_types": ["full_attention"] * 6}, "each of 7 layers"),
        ("qwen2", {"layer_types": ["linear_attention"] * 7}, "'full_attention' or 'sliding_attention'"),
        ("qwen2", {"num_hidden_layers": 10**9}, "number of layers"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma2", {"sliding_window": None}, "sliding_window"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern"),
        ("gemma3_text", {"rope_parameters": {"full_attention": 3}}, "rope_parameters"),
        ("olmo", {"clip_qkv": 8.0}, "clip_qkv"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv"),
        ("mixtral", {"router_jitter_noise": 0.1}, "router_jitter_noise"),
        ("mixtral", {"num_experts_per_tok": 9}, "per_token"),
        ("qwen2_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step"),
        ("qwen3_moe", {"mlp_only_layers": 3}, "mlp_only_layers"),
        ("gpt_oss", {"hidden_act": "gelu"}, "hidden_act"),
        ("gpt_oss", {"quantization_config": {"quant_method": "mxfp4"}}, r"MXFP4 .*Mxfp4Config\(dequantize=True\)"),
    ],
)
def test_what_is_not_computed_is_refused(family: str, change: dict[str, Any], message: str) -> None:
    FAMILIES[family].read_config(tiny(family))
    with pytest.raises(UsageError, match=message):
        FAMILIES[family].read_config(tiny(family) | change)


PUBLISHED = [  # keys as in the files of the hub, which are of transformers 4; parameters as their cards count them
    (
        {
            "model_type": "mixtral",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rope_theta": 1e6,
            "sliding_window": None,
        },
        46_702_792_704,
    ),
    (
        {
            "model_type": "gemma2",
            "vocab_size": 256000,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "rope_theta": 10000.0,
            "hidden_act": "gelu_pytorch_tanh",
        },
        2_614_341_888,
    ),
    (
        {
            "model_type": "gemma3_text",
            "vocab_size": 262144,
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "num_hidden_layers": 26,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "rope_theta": 1000000,
            "rope_local_base_freq": 10000,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
        },
        999_885_952,
    ),
    (
        {
            "model_type": "qwen3_moe",
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
            "rope_theta": 1000000.0,
            "use_sliding_window": False,
        },
        30_532_122_624,
    ),
]


@pytest.mark.parametrize(("theirs", "params"), PUBLISHED, ids=lambda value: str(value)[:24])
def test_published_sizes(theirs: dict[str, Any], params: int) -> None:
    assert count(FAMILIES[theirs["model_type"]].read_config(theirs)).params == params


def test_layers_that_differ_share_as_few_templates_as_there_are_kinds() -> None:
    def read(family: str, **changes: Any) -> ModelConfig:
        return FAMILIES[family].read_config(tiny(family, head_dim=8, **changes))

    gemma = read("gemma3_text", num_hidden_layers=26)
    assert gemma.pattern == ("local",) * 5 + ("global",) and set(gemma.layers) == {"local", "global"}
    assert read("gemma2").pattern == ("local", "global")
    assert read("qwen2").pattern == ("block",)
    late = read("qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=6)
    assert late.pattern == ("global",) * 6 + ("local",)
    both = read("qwen2_moe", use_sliding_window=True, sliding_window=5, mlp_only_layers=[1])
    assert set(both.layers) == {"local_sparse", "global_dense", "global_sparse"}
    assert read("qwen3_moe", decoder_sparse_step=2).pattern == ("dense", "sparse")
    assert shortest(list("abaabaa")) == list("aba") and shortest(list("abb")) == list("abb")


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3_text"])
@torch.no_grad()
def test_the_scale_of_embeddings_is_rounded_as_in_training(family: str, tmp_path: Path) -> None:
    """sqrt(3072) = 55.43 is 55.5 in bfloat16; the same product in float32 gives other embeddings."""
    torch.manual_seed(0)
    given = {k: v for k, v in tiny(family, head_dim=8).items() if k != "model_type"}
    given |= {"hidden_size": 3072, "num_hidden_layers": 1, "pad_token_id": 0}
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **given)).eval()
    theirs.bfloat16().save_pretrained(tmp_path)
    ours, tokens = load_model(tmp_path), torch.randint(0, 31, (2, 9))
    want = theirs.get_input_embeddings()(tokens)
    assert torch.equal(ours.embed(tokens), want)
    assert not torch.equal((ours.embed.weight[tokens].float() * 3072**0.5).bfloat16(), want)
    exact = load_model(tmp_path, torch.float32)(tokens)
    noise = (theirs(tokens).logits.float() - exact).abs().mean()
    assert (ours(tokens).float() - exact).abs().mean() < 1.5 * noise


@pytest.mark.parametrize("family", NAMES)
def test_a_model_of_our_own_is_saved_as_a_family_that_can_say_it(family: str, tmp_path: Path) -> None:
    config = FAMILIES[family].read_config(tiny(family, head_dim=8, num_hidden_layers=2))
    save_model(Model(config), tmp_path)
    again = load_model(tmp_path)
    assert again.config == config and again.origin["model_type"] == family
