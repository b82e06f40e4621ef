"""The families after GPT: double precision, files of older versions, published sizes, and what is refused."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.size import count
from hanok.model.weights import load_model, save_model

CASES = Path(__file__).parents[1] / "conformance" / "cases"
VOCAB = 101
# Of these the reference computes every step in the precision of the weights.
DOUBLE = ("gpt2", "openai-gpt", "gpt_neox", "opt", "falcon", "phi")


def cases_of(family: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = runpy.run_path(str(CASES / f"family_{family}.py"))
    return {"vocab_size": VOCAB} | found["BASE"], found["CASES"]


def theirs_of(family: str, case: dict[str, Any] | None = None) -> Any:
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, **(cases_of(family)[0] | (case or {})))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.mark.parametrize(
    ("family", "case"),
    [
        pytest.param(family, case, marks=[] if at < 2 else [pytest.mark.slow])
        for family in DOUBLE
        for at, case in enumerate(cases_of(family)[1])
        if not case.get("alibi")
    ],
    ids=str,
)
@torch.no_grad()
def test_double_precision_is_equal_to_the_last_digits(family: str, case: dict[str, Any], tmp_path: Path) -> None:
    theirs, tokens = theirs_of(family, case).double(), torch.randint(0, VOCAB, (2, 60))
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-12)


def rename(old: str, new: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {name.replace(old, new, 1): tensor for name, tensor in tensors.items()}


def add(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: tensors | {name: torch.ones(3) for name in names}


# Family, case, what an older config.json says otherwise (None: not at all), what its tensors are called.
OLDER: list[tuple[str, dict[str, Any], dict[str, Any], list[Any]]] = [
    (
        "gpt2",
        {},
        {"n_ctx": 128, "tie_word_embeddings": None, "scale_attn_weights": None, "n_inner": None},
        [rename("transformer.", ""), add("h.0.attn.bias", "h.2.attn.bias", "h.1.attn.masked_bias")],
    ),
    (
        "openai-gpt",
        {},
        {"n_special": 0, "n_ctx": 128},
        [rename("transformer.", ""), add("h.1.attn.bias", "position_ids")],
    ),
    (
        "gpt_neox",
        {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.5}},
        {"rope_parameters": None, "rotary_emb_base": 500, "rotary_pct": 0.5, "attention_bias": None},
        [
            rename("lm_head", "embed_out"),
            add("gpt_neox.layers.0.attention.bias", "gpt_neox.layers.1.attention.masked_bias"),
            add("gpt_neox.layers.2.attention.rotary_emb.inv_freq"),
        ],
    ),
    ("gpt_neox", {}, {}, [rename("embed_out", "lm_head")]),
    (
        "gptj",
        {},
        {"rotary": True, "scale_attn_weights": True},
        [add("transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias")],
    ),
    (
        "bloom",
        {},
        {"n_embed": 48, "hidden_size": None, "num_attention_heads": 4, "n_head": None, "offset_alibi": 100},
        [rename("transformer.", "")],
    ),
    ("opt", {}, {"word_embed_proj_dim": 48, "enable_bias": None}, [rename("model.decoder.", "decoder.")]),
    (
        "falcon",
        {},
        {"rope_parameters": None, "n_embed": 48, "hidden_size": None, "ffn_hidden_size": None},
        [add("transformer.h.0.self_attention.rotary_emb.inv_freq")],
    ),
    (
        "phi",
        {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.25}},
        {"rope_parameters": None, "rope_theta": 500.0, "partial_rotary_factor": 0.25, "rope_scaling": None},
        [add("model.layers.0.self_attn.rotary_emb.inv_freq")],
    ),
    (
        "phi3",
        cases_of("phi3")[1][5],
        {
            "rope_parameters": None,
            "rope_theta": 1e4,
            "rope_scaling": {"type": "su", "short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 3.0, 4.5]},
        },
        [add("model.layers.0.self_attn.rotary_emb.inv_freq")],
    ),
    ("mpt", {}, {"attn_config": {"alibi": True, "clip_qkv": None}, "verbose": 0}, []),
]


@pytest.mark.parametrize(("family", "case", "keys", "changes"), OLDER, ids=lambda value: str(value)[:20])
@torch.no_grad()
def test_older_files_read_the_same(
    family: str, case: dict[str, Any], keys: dict[str, Any], changes: list[Any], tmp_path: Path
) -> None:
    theirs, tokens = theirs_of(family, case), torch.randint(0, VOCAB, (2, 40))
    theirs.save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    kept = {key: value for key, value in (data | keys).items() if value is not None or key not in keys}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    tensors = load_file(tmp_path / "model.safetensors")
    for change in changes:
        tensors = change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    ours = load_model(tmp_path)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)
    save_model(ours, tmp_path / "again")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
    torch.testing.assert_close(back(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-5)


# What their authors' config.json says of shapes, and how many parameters the models have.
PUBLISHED: list[tuple[str, int, dict[str, Any]]] = [
    ("openai-gpt", 116_534_784, {"vocab_size": 40478, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 512}),
    ("gpt2", 124_439_808, {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}),
    ("gpt2", 1_557_611_200, {"vocab_size": 50257, "n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024}),
    ("gptj", 6_050_882_784, {"vocab_size": 50400, "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64}),
    (
        "gpt_neox",
        70_426_624,
        {
            "vocab_size": 50304,
            "hidden_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            "rotary_pct": 0.25,
        },
    ),
    (
        "gpt_neox",
        20_554_567_680,
        {
            "vocab_size": 50432,
            "hidden_size": 6144,
            "num_hidden_layers": 44,
            "num_attention_heads": 64,
            "intermediate_size": 24576,
            "hidden_act": "gelu_fast",
        },
    ),
    ("bloom", 559_214_592, {"vocab_size": 250880, "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16}),
    (
        "opt",
        125_239_296,
        {
            "vocab_size": 50272,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "ffn_dim": 3072,
            "word_embed_proj_dim": 768,
        },
    ),
    (
        "opt",
        331_196_416,
        {
            "vocab_size": 50272,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "ffn_dim": 4096,
            "word_embed_proj_dim": 512,
            "do_layer_norm_before": False,
        },
    ),
    (
        "falcon",
        6_921_720_704,
        {"vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71},
    ),
    (
        "falcon",
        41_303_293_952,
        {
            "vocab_size": 65024,
            "hidden_size": 8192,
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
        },
    ),
    (
        "phi",
        2_779_683_840,
        {
            "vocab_size": 51200,
            "hidden_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_size": 10240,
            "partial_rotary_factor": 0.4,
        },
    ),
    (
        "phi3",
        3_821_079_552,
        {
            "vocab_size": 32064,
            "hidden_size": 3072,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_size": 8192,
            "sliding_window": 2047,
        },
    ),
    (
        "phi3",
        14_659_507_200,
        {
            "vocab_size": 100352,
            "hidden_size": 5120,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 10,
            "intermediate_size": 17920,
            "rope_theta": 250000,
        },
    ),
    ("mpt", 6_649_286_656, {"vocab_size": 50432, "d_model": 4096, "n_layers": 32, "n_heads": 32}),
]


@pytest.mark.parametrize(("family", "params", "keys"), PUBLISHED, ids=str)
def test_published_shapes_have_the_published_parameters(family: str, params: int, keys: dict[str, Any]) -> None:
    assert count(FAMILIES[family].read_config(keys)).params == params


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"activation_function": "gelu_nwe"}, "did you mean 'gelu_new'"),
        ("gpt2", {"activation_function": ["gelu"]}, "activation_function"),
        ("gpt2", {"n_embd": None}, "no 'n_embd'"),
        ("gpt2", {"n_head": 0, "scale_attn_by_inverse_layer_idx": True}, "divided among 0 heads"),
        ("gpt2", {"n_layer": "3", "scale_attn_by_inverse_layer_idx": True}, "n_layer"),
        ("openai-gpt", {"afn": "gelu_new"}, "afn"),
        ("gptj", {"rotary_dim": None}, "rotary_dim"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
        ("gpt_neox", {"hidden_act": "x"}, "known: gelu,"),
        ("gpt_neox", {"rope_parameters": {"rope_type": "magic"}}, "magic"),
        ("falcon", {"new_decoder_architecture": True, "parallel_attn": False}, "do not go together"),
        ("falcon", {"num_ln_in_parallel_attn": 2}, "do not go together"),
        ("falcon", {"multi_query": False, "num_kv_heads": 2}, "needs new_decoder_architecture"),
        ("falcon", {"hidden_size": "48", "alibi": True}, "divided among"),
        ("phi3", {"hidden_act": "gelu"}, "hidden_act"),
        ("mpt", {"attn_config": {"clip_qkv": 6.0}}, "clip_qkv"),
        ("mpt", {"attn_config": {"qk_ln": True}}, "qk_ln"),
        ("mpt", {"attn_config": {"alibi": False}}, "alibi"),
        ("mpt", {"attn_config": [1]}, "mapping"),
        ("mpt", {"expansion_ratio": 2}, "expansion_ratio"),
        ("mpt", {"logit_scale": 0.5}, "logit_scale"),
        ("opt", {"ffn_dim": "wide"}, "hidden"),
        ("phi", {"num_key_value_heads": 2}, "multiple of kv_heads"),
    ],
)
def test_what_is_not_computed_is_refused(family: str, change: dict[str, Any], message: str) -> None:
    keys = transformers.AutoConfig.for_model(family, **cases_of(family)[0]).to_dict()
    FAMILIES[family].read_config(keys)
    with pytest.raises(UsageError, match=message):
        FAMILIES[family].read_config(keys | change)


@torch.no_grad()
def test_keys_that_go_by_two_names_never_disagree(tmp_path: Path) -> None:
    """A model that was made narrower after it was read is saved with no name of its old width."""
    theirs_of("bloom").save_pretrained(tmp_path / "old")
    data = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps(data | {"n_embed": 48, "num_attention_heads": 4}))
    origin = load_model(tmp_path / "old").origin
    theirs_of("bloom", {"hidden_size": 30, "n_head": 3}).save_pretrained(tmp_path / "new")
    model = load_model(tmp_path / "new")
    model.origin = origin
    save_model(model, tmp_path / "saved")
    tokens = torch.randint(0, VOCAB, (1, 9))
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(back(tokens).logits, model(tokens), rtol=0, atol=1e-5)
