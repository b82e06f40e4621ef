"""RoPE's scalings from config.json and back: nothing is lost, and whole models compute transformers' logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.rows import RopeRow
from hanok.model.weights import load_model, save_model

BASE: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 60,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.5, 1.8, 2.0],
    "long_factor": [1.0, 2.0, 3.0, 4.0, 6.0, 9.0],
    "original_max_position_embeddings": 24,
}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0, "length": 150},
    YARN,
    YARN | {"beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
    YARN | {"mscale": 0.707, "mscale_all_dim": 1.0, "truncate": True},
    YARN | {"attention_factor": 1.25},
    LONG,
    LONG | {"length": 20},
    LONG | {"factor": 2.0, "attention_factor": 1.1},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
]


def read(theirs: dict[str, Any], row: RopeRow) -> dict[str, Any]:
    ours: dict[str, Any] = {"position": {"kind": "rope"}}
    row.read(theirs, ours)
    return ours


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("fraction", [None, 0.5])
def test_both_versions_read_alike_and_nothing_is_lost(scaling: dict[str, Any], fraction: float | None) -> None:
    family = FAMILIES["llama"]
    beside = {} if fraction is None else {"partial_rotary_factor": fraction}
    parts = {"head_dim": 24 if fraction else 12}  # the lists are as long as the pairs that turn
    new = BASE | parts | {"rope_parameters": {"rope_theta": 3e4, **scaling, **beside}}
    old = BASE | parts | {"rope_theta": 3e4, "rope_scaling": scaling, **beside}
    older = old | {"rope_scaling": {("type" if key == "rope_type" else key): v for key, v in scaling.items()}}
    config = family.read_config(new)
    assert family.read_config(old) == family.read_config(older) == config
    written = family.write_config(config)
    assert written is not None and family.read_config(written) == config
    assert written["rope_parameters"] == new["rope_parameters"] and written["rope_theta"] == 3e4
    assert written["rope_scaling"] == (None if scaling == {"rope_type": "default"} else scaling)


@pytest.mark.parametrize("length", [20, pytest.param(60, marks=pytest.mark.slow), 90])
@pytest.mark.parametrize("scaling", [case for case in SCALINGS if "length" not in case], ids=str)
@torch.no_grad()
def test_logits_equal_within_and_beyond_the_original_context(
    scaling: dict[str, Any], length: int, tmp_path: Path
) -> None:
    dynamic = scaling["rope_type"] == "dynamic"
    torch.manual_seed(length)
    config = transformers.LlamaConfig(
        **(BASE | {"max_position_embeddings": 24 if dynamic else 96}), rope_parameters={"rope_theta": 100.0, **scaling}
    )
    theirs, tokens = transformers.LlamaForCausalLM(config).eval(), torch.randint(0, 101, (2, length))
    theirs.save_pretrained(tmp_path)
    if dynamic or scaling["rope_type"] == "longrope":  # theirs chooses by the sequence, ours by what it is set to
        data = json.loads((tmp_path / "config.json").read_text())
        data["rope_parameters"]["length"] = length
        (tmp_path / "config.json").write_text(json.dumps(data))
    ours = load_model(tmp_path)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)
    save_model(ours, tmp_path / "again")
    assert torch.equal(load_model(tmp_path / "again")(tokens), ours(tokens))


@torch.no_grad()
def test_the_scaling_is_what_makes_them_equal(tmp_path: Path) -> None:
    """Control arm: the same weights with another rule, another factor or no scaling give other logits."""
    config = transformers.LlamaConfig(**BASE, rope_parameters={"rope_theta": 100.0, **LONG})
    theirs, tokens = transformers.LlamaForCausalLM(config).eval(), torch.randint(0, 101, (1, 20))
    theirs.save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    for change in ({"length": 90}, {"length": 20, "attention_factor": 1.0}, {"rope_type": "default"}):
        (tmp_path / "config.json").write_text(json.dumps(data | {"rope_parameters": data["rope_parameters"] | change}))
        gap = (load_model(tmp_path)(tokens) - theirs(tokens).logits).abs().max()
        assert gap > 1e-3, change


def test_names_and_defaults_of_families() -> None:
    neox = RopeRow("position", theta="rotary_emb_base", fraction="rotary_pct", default_fraction=0.25)
    assert read({}, neox)["position"]["fraction"] == 0.25
    ours = read({"rotary_emb_base": 5000, "rotary_pct": 1.0}, neox)
    assert ours["position"] | {"scaling": None} == {"kind": "rope", "theta": 5000.0, "fraction": 1.0, "scaling": None}
    theirs: dict[str, Any] = {}
    neox.write(ours, theirs)
    assert theirs["rotary_pct"] == 1.0 and theirs["rope_parameters"]["partial_rotary_factor"] == 1.0
    assert read(theirs, neox) == ours
    assert read({"rope_theta": 7.0}, RopeRow("position", default_theta=1e6))["position"]["theta"] == 7.0
    assert read({}, RopeRow("position", default_theta=1e6))["position"]["theta"] == 1e6
    with pytest.raises(KeyError):
        neox.write({"position": {"kind": "alibi"}}, {})


def test_older_names_and_values_to_be_worked_out() -> None:
    row = RopeRow("position")
    su = LONG | {"rope_type": "su"}
    beside = {"max_position_embeddings": 96, "original_max_position_embeddings": 48}
    scaling = read(beside | {"rope_scaling": su}, row)["position"]["scaling"]
    assert scaling["kind"] == "longrope" and scaling["original_context"] == 48, "what stands beside comes first"
    scaling = read(beside | {"rope_scaling": YARN | {"factor": None}}, row)["position"]["scaling"]
    assert scaling["factor"] == 2.0
    scaling = read({"max_position_embeddings": 96, "rope_scaling": {"type": "yarn", "factor": 2.0}}, row)
    assert scaling["position"]["scaling"]["original_context"] == 96


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "yran", "factor": 2}, "'yran' is not supported; did you mean 'yarn'"),
        ({"rope_type": "proportional"}, "known: default, linear, dynamic, yarn, llama3, longrope"),
        ({"rope_type": "yarn"}, "'yarn' has no 'factor'"),
        ({"rope_type": "longrope", "short_factor": [1.0]}, "'longrope' has no 'long_factor'"),
        ({"rope_type": "linear", "factor": -1}, "greater than 0"),
        ({"full_attention": {"rope_type": "default"}}, "by layer type"),
    ],
)
def test_what_cannot_be_computed_is_refused(rope: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FAMILIES["llama"].read_config(BASE | {"rope_parameters": rope})
