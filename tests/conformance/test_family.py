"""What every family inherits: config and weights round-trip, and both libraries compute the same logits."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.families.rule import DROP, TIED, expand
from hanok.model.model import Model
from hanok.model.size import count, stored
from hanok.model.weights import TokenIds, load_model, read_tensors, read_token_ids, save_model

# One file of cases per family: `cases/family_<model_type>.py` with a list CASES of config keys (what each case changes)
# and BASE (what all share); where it matters MODEL (the transformers class), TOLERANCE, OLDER (rules for older files
# only), GENERATES, and THEIRS, OURS, GREEDY (how to run a model that takes more than tokens).
FOUND = {
    file.stem.removeprefix("family_"): runpy.run_path(str(file))
    for file in sorted((Path(__file__).parent / "cases").glob("family_*.py"))
}
VOCAB = 101
MADE: dict[str, tuple[Any, torch.Tensor]] = {}


def first(count: int) -> list[Any]:
    """Return all cases of all families; the first `count` of each run every time, the others with --slow."""
    return [
        pytest.param(family, case, marks=[] if at < count else [pytest.mark.slow])
        for family, found in FOUND.items()
        for at, case in enumerate(found["CASES"])
    ]


def config_of(family: str, case: dict[str, Any]) -> Any:
    """Return a tiny configuration of the reference library."""
    return transformers.AutoConfig.for_model(family, **({"vocab_size": VOCAB} | FOUND[family]["BASE"] | case))


def theirs_of(family: str, case: dict[str, Any]) -> Any:
    """Return a tiny random model of the reference library; it is made once, and tests only read it."""
    key = f"{family} {case}"
    if key not in MADE:
        if len(MADE) >= 128:  # with --slow there are hundreds
            MADE.clear()
        MADE[key] = make(family, case), torch.get_rng_state()
    model, state = MADE[key]
    torch.set_rng_state(state)  # what a test draws next does not depend on who was first
    return model


def make(family: str, case: dict[str, Any]) -> Any:
    """Return a new model, in which every tensor matters."""
    torch.manual_seed(1)
    found, config = FOUND[family], config_of(family, case)
    if "MODEL" in found:
        model = getattr(transformers, found["MODEL"])(config).eval()
    else:
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():  # biases and gains start at 0 and 1: make each of them matter
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model


def logits_of(model: Any, family: str, tokens: torch.Tensor) -> torch.Tensor:
    """Return their logits; a family whose forward takes more than tokens says how (THEIRS)."""
    found = FOUND[family]
    out: torch.Tensor = (
        found["THEIRS"](model, tokens) if "THEIRS" in found else model(tokens, **found.get("CALL", {})).logits
    )
    return out


def our_logits(model: Model, family: str, tokens: torch.Tensor) -> torch.Tensor:
    found = FOUND[family]
    out: torch.Tensor = found["OURS"](model, tokens) if "OURS" in found else model(tokens)
    return out


def greedy(model: Any, family: str, prompt: list[int], tokens: list[int]) -> list[int]:
    """Return what their model finds most likely at each place, given the prompt and all earlier `tokens`."""
    if "GREEDY" in FOUND[family]:
        own: list[int] = FOUND[family]["GREEDY"](model, prompt, len(tokens))
        return own
    logits = logits_of(model, family, torch.tensor([[*prompt, *tokens[:-1]]]))
    return logits[0, len(prompt) - 1 :].argmax(-1).tolist()


def test_every_family_has_a_case() -> None:
    assert set(FOUND) == set(FAMILIES)


@pytest.mark.parametrize(("family", "case"), first(1), ids=str)
@torch.no_grad()
def test_logits_equal_both_ways(family: str, case: dict[str, Any], tmp_path: Path) -> None:
    theirs, tokens = theirs_of(family, case), torch.randint(0, VOCAB, (2, 60))
    tolerance = FOUND[family].get("TOLERANCE", 1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    want = logits_of(theirs, family, tokens)
    torch.testing.assert_close(our_logits(ours, family, tokens), want, rtol=0, atol=tolerance)
    save_model(ours, tmp_path / "ours", TokenIds(1, (2, 3), 0))
    back, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(logits_of(back.eval(), family, tokens), want, rtol=0, atol=1e-5)
    again = load_model(tmp_path / "ours")
    assert again.config == ours.config
    assert replace(read_token_ids(tmp_path / "ours"), start=None) == TokenIds(1, (2, 3), 0)
    for (name, a), b in zip(ours.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert count(ours.config).params == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(("family", "case"), first(1), ids=str)
def test_no_key_of_the_config_is_lost(family: str, case: dict[str, Any], tmp_path: Path) -> None:
    theirs = theirs_of(family, case | {"initializer_range": 0.0123})
    theirs.save_pretrained(tmp_path / "theirs")
    ids = read_token_ids(tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours", ids)
    back = transformers.AutoConfig.from_pretrained(tmp_path / "ours").to_dict()
    for key, value in theirs.config.to_dict().items():
        assert key in ("_name_or_path", "transformers_version") or back[key] == value, key


@pytest.mark.parametrize(("family", "case"), first(1), ids=str)
@torch.no_grad()
def test_greedy_tokens_equal_through_the_engine(family: str, case: dict[str, Any], tmp_path: Path) -> None:
    if not FOUND[family].get("GENERATES", True):
        pytest.skip("this family does not generate text")
    theirs = theirs_of(family, case)
    theirs.save_pretrained(tmp_path)
    llm = LLM.load(tmp_path)
    prompt = torch.randint(4, VOCAB, (9,)).tolist()
    request = Request(prompt, max_tokens=64, temperature=0.0, ignore_eos=True)
    tokens = Engine(llm, numerics="fast").generate([request])[0].tokens
    assert len(tokens) == 64 and tokens == greedy(theirs, family, prompt, tokens)


@pytest.mark.parametrize("family", sorted(FOUND))
def test_version_4_keys_read_the_same(family: str, tmp_path: Path) -> None:
    for case in FOUND[family]["CASES"]:
        config_of(family, case).save_pretrained(tmp_path)
        new = json.loads((tmp_path / "config.json").read_text())
        if "rope_parameters" not in new or "rope_theta" not in new["rope_parameters"]:
            continue
        old = {key: value for key, value in new.items() if key not in ("rope_parameters", "dtype")}
        rope = dict(new["rope_parameters"])
        old |= {"rope_theta": rope.pop("rope_theta"), "torch_dtype": "float32"}
        old["rope_scaling"] = None if rope == {"rope_type": "default"} else rope
        assert FAMILIES[family].read_config(old) == FAMILIES[family].read_config(new)
        if old["rope_scaling"]:
            old["rope_scaling"]["type"] = old["rope_scaling"].pop("rope_type")
            assert FAMILIES[family].read_config(old) == FAMILIES[family].read_config(new)


@pytest.mark.parametrize("family", sorted(FOUND))
def test_every_rule_is_used(family: str, tmp_path: Path) -> None:
    """A name in the table that no model of the family has would be a wrong name."""
    unused = {rule for rule in FAMILIES[family].weights if rule.op is not DROP}
    older = set(FOUND[family].get("OLDER", ()))
    for case in FOUND[family]["CASES"]:
        if {rule.theirs for rule in unused} == older:
            break
        theirs_of(family, case).save_pretrained(tmp_path)
        names = {name for name, _ in read_tensors(tmp_path)}
        model = load_model(tmp_path)
        shapes = {name: tensor.shape for name, tensor in stored(model).items()}
        for rule in list(unused):
            pieces, ignored = expand([rule], model.config, shapes)
            if names & set(pieces) or (rule.op is TIED and ignored):
                unused.discard(rule)
    assert {rule.theirs for rule in unused} == older


@pytest.mark.parametrize("preset", ["rglru-tiny", "griffin-tiny"])
@torch.no_grad()
def test_what_no_family_can_say_is_saved_as_our_own(preset: str, tmp_path: Path) -> None:
    model = Model(ModelConfig.preset(preset, vocab=50, dim=32, depth=3))
    save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "hanok"
    tokens = torch.randint(0, 50, (2, 20))
    assert torch.equal(load_model(tmp_path)(tokens), model(tokens))


@torch.no_grad()
def test_shards_bf16_and_tied_copies(tmp_path: Path) -> None:
    model = Model(ModelConfig.preset("llama-tiny", vocab=50, dim=32)).bfloat16()
    save_model(model, tmp_path, shard_bytes=20_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2 and not (tmp_path / "model.safetensors").exists()
    tokens = torch.randint(0, 50, (1, 9))
    assert load_model(tmp_path).dtype == torch.bfloat16
    assert torch.equal(load_model(tmp_path)(tokens), model(tokens))
    assert load_model(tmp_path, torch.float32).dtype == torch.float32
    save_model(model, tmp_path)  # one file again, and no stale shard
    assert [file.name for file in tmp_path.glob("model*")] == ["model.safetensors"]
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, tmp_path / "model.safetensors"
    )
    assert torch.equal(load_model(tmp_path)(tokens), model(tokens)), "older files repeat tied weights"


def damage(path: Path, **changes: Any) -> None:
    data = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({k: v for k, v in (data | changes).items() if v is not ...}))


def retensor(path: Path, add: dict[str, torch.Tensor], drop: str = "") -> None:
    tensors = load_file(path / "model.safetensors")
    save_file({k: v for k, v in (tensors | add).items() if k != drop}, path / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: damage(p, auto_map={"AutoModel": "evil.py"}), "auto_map"),
        (lambda p: damage(p, model_type="lama"), "unknown model_type 'lama'; did you mean 'llama'"),
        (lambda p: damage(p, hidden_act="gelu"), "hidden_act"),
        (lambda p: damage(p, vocab_size=...), "vocab_size"),
        (lambda p: damage(p, rope_parameters={"rope_type": "magic"}), "magic"),
        (lambda p: damage(p, num_hidden_layers=5), "missing"),
        (lambda p: damage(p, num_hidden_layers=2), "no place"),
        (lambda p: damage(p, intermediate_size=99), "shape"),
        (lambda p: damage(p, quantization_config={"quant_method": "gptq"}), "gptq"),
        (lambda p: (p / "config.json").write_text("{"), "cannot be read"),
        (lambda p: (p / "config.json").unlink(), "not a model directory"),
        (lambda p: retensor(p, {"model.extra.weight": torch.ones(2)}), r"model\.extra\.weight"),
        (lambda p: retensor(p, {}, drop="model.norm.weight"), r"first is 'model\.norm\.weight'"),
        (lambda p: (p / "model.safetensors").write_bytes(b"\xff" * 100), "safetensors"),
        (lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "pickled"),
        (lambda p: (p / "model.safetensors").unlink(), "holds neither"),
    ],
)
def test_bad_directories_are_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    theirs_of("llama", {}).save_pretrained(tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    load_model(tmp_path / "bad")
    change(tmp_path / "bad")
    with pytest.raises(UsageError, match=message):
        load_model(tmp_path / "bad")


def test_a_shard_index_cannot_point_outside(tmp_path: Path) -> None:
    theirs_of("llama", {}).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(UsageError, match="not a file of this directory"):
        load_model(tmp_path)
