"""Parts that layers share: the same model whole, in chunks and over pages; its tensors held, saved and packed once."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Slot
from hanok.model.compare import mixers
from hanok.model.config import ModelConfig
from hanok.model.diagram import draw
from hanok.model.exit import EarlyExit, ExitConfig, states
from hanok.model.families import FAMILIES
from hanok.model.model import Model
from hanok.model.size import count, count_model, stored
from hanok.model.weights import load_model, save_model
from hanok.nn.context import Dense, PerSequence, PerToken
from hanok.nn.linear import Linear, swap
from hanok.ops.numerics import numerics

Serve = Callable[..., list[Tensor]]
LENGTHS = (5, 37, 1, 70)
MAMBA = {"kind": "mamba2", "head_dim": 8, "state": 6, "groups": 2}
GQA = {"kind": "gqa", "heads": 3, "kv_heads": 1, "head_dim": 8, "out": 16}
GEGLU = {"kind": "geglu", "hidden": 20}
QKV = [{"of": ["mixer.q", "mixer.k", "mixer.v"], "rank": 2}]
# Parts, and the layers, each a mixer, a feed-forward network or none, and the part beside it.
CASES: dict[str, tuple[dict[str, Any], list[tuple[Any, Any, str | None]]]] = {
    "adapters": (
        {"a": {"mixer": GQA, "ffn": GEGLU, "adapters": [*QKV, {"of": ["ffn.gate", "ffn.up"], "rank": 3}]}},
        [(MAMBA, None, "a"), (MAMBA, None, None), (MAMBA, GEGLU, "a")],
    ),
    "two parts in turn": (
        {"a": {"mixer": GQA | {"window": 6, "gate": "sigmoid"}, "adapters": QKV}, "b": {"mixer": GQA, "ffn": GEGLU}},
        [(MAMBA, None, "a"), (MAMBA, None, "b"), ({"kind": "gqa", "heads": 4}, GEGLU, "a"), (MAMBA, None, "b")],
    ),
    "a recurrent part beside attention": (
        {"a": {"mixer": MAMBA, "ffn": {"kind": "moe", "experts": 8, "expert": {"kind": "swiglu", "hidden": 12}}}},
        [({"kind": "gqa", "heads": 4, "kv_heads": 2}, GEGLU, "a")],
    ),
}


def config(name: str, **changes: Any) -> ModelConfig:
    shared, layers = CASES[name]
    templates = {f"l{at}": {"mixer": m, "ffn": f, "beside": b} for at, (m, f, b) in enumerate(layers)}
    data = {"vocab": 31, "dim": 16, "depth": max(3, len(layers)), "layers": templates, "pattern": list(templates)}
    return ModelConfig.parse(data | {"shared": shared} | changes)


def build(name: str, dtype: torch.dtype = torch.float64) -> Model:
    return Model(config(name), seed=3).to(dtype)


def sequences() -> list[Tensor]:
    return [torch.randint(0, 31, (n,), generator=torch.Generator().manual_seed(n)) for n in LENGTHS]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_chunks_and_decode_equal_whole_sequences(name: str, serve: Serve) -> None:
    model, tokens = build(name), sequences()
    pool = Pool(model.memory(), 90, page_size=7, dtype=torch.float64, order="shuffled", seed=1)
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, (1, 1, 2, 7, 33, 64)), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_exact_numerics_are_bitwise_equal(name: str, dtype: torch.dtype, serve: Serve) -> None:
    model, tokens = build(name, dtype), sequences()
    with numerics("exact"):
        pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled")
        for ids, got in zip(tokens, serve(model, tokens, pool, 0, (1, 2, 33, 64)), strict=True):
            assert torch.equal(got, model(ids[None])[0])


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_fork_truncate_snapshot_equal_recomputing(name: str) -> None:
    model, tokens = build(name), sequences()[3]
    pool = Pool(model.memory(), 60, page_size=16, dtype=torch.float64, order="shuffled")

    def read(slot: Slot, ids: Tensor) -> Tensor:
        row = Row(slot, slot.length, len(ids))
        pool.append(slot, len(ids))
        out: Tensor = model(ids[None], Paged(pool, [row]))[0, -1]
        return out

    def check(got: Tensor, *parts: Tensor) -> None:
        torch.testing.assert_close(got, model(torch.cat(parts)[None])[0, -1], rtol=1e-10, atol=1e-10)

    slot = pool.open()
    read(slot, tokens[:40])
    pool.snapshot(slot)
    twin = pool.fork(slot)
    check(read(twin, tokens[50:55]), tokens[:40], tokens[50:55])
    check(read(slot, tokens[40:60]), tokens[:60])
    pool.truncate(slot, 40)
    check(read(slot, tokens[55:]), tokens[:40], tokens[55:])
    check(read(pool.restore(pool.dump(twin)), tokens[:3]), tokens[:40], tokens[50:55], tokens[:3])
    pool.check()


@pytest.mark.parametrize("name", CASES)
def test_causal_and_trained_everywhere(name: str) -> None:
    model, x = build(name), torch.randint(0, 31, (2, 12))
    y = x.clone()
    y[:, 7] = (y[:, 7] + 1) % 31
    a, b = model(x), model(y)
    assert torch.allclose(a[:, :7], b[:, :7], atol=1e-12) and not torch.allclose(a[:, 7:], b[:, 7:], atol=1e-3)
    a.square().mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_use_is_the_formula_with_its_own_adapters(name: str) -> None:
    """Merging B A into W by hand, for one use, gives what the part computes for that use."""
    model = build(name)
    assert model.shared is not None
    tokens = torch.randint(0, 31, (2, 9))
    x, e = torch.randn(2, 9, 16).double(), model.embed(tokens)
    for layer, part_name in model.config.uses.items():
        part: Any = copy.deepcopy(model.shared[part_name])
        use: Any = part.uses[str(layer)]
        want = part(x, e, Dense(tokens), layer)
        for adapter, spec in zip(use.adapters.values(), model.config.shared[part_name].adapters, strict=True):
            for full in spec.of:
                part.get_submodule(full).weight += adapter.B[full.partition(".")[2]].weight @ adapter.A.weight
        y = part.mixer(part.mixer_norm(torch.cat((x, e), -1)), Dense(tokens))
        y = y if part.ffn is None else part.ffn(part.ffn_norm(y))
        torch.testing.assert_close(want, use.out(y), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_flops_are_those_that_are_spent_and_weights_are_counted_once(name: str) -> None:
    model, calls = build(name, torch.float32), Counter[str]()
    for path, module in model.named_modules():
        if isinstance(module, Linear) and "experts" not in path:
            module.register_forward_hook(lambda *_, path=path: calls.update([path]))
    model(torch.zeros(1, 1, dtype=torch.long))
    size = count_model(model)
    for path, module in model.named_modules():
        if path in calls and isinstance(module, Linear):
            assert calls[path] == module.active, path
    assert size.params == sum(p.numel() for p in model.parameters()) == sum(t.numel() for t in stored(model).values())
    experts = "a recurrent" in name
    assert (size.params_active < size.params) == experts  # no more is ever active than there is
    memory, uses = model.memory(), len(model.config.uses)
    assert len(memory) == model.config.depth + uses
    assert size.cache_numbers == sum(m.numbers for m in memory if isinstance(m, PerToken))
    assert size.state_bytes == sum(torch.Size(m.shape).numel() * 4 for m in memory if isinstance(m, PerSequence))
    assert "shared" in mixers(model.config) and "shared" in draw(model.config)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_saved_packed_and_copied_once(name: str, tmp_path: Path) -> None:
    model, tokens = build(name, torch.float32), torch.randint(0, 31, (2, 15))
    save_model(model, tmp_path / "own")
    assert json.loads((tmp_path / "own" / "config.json").read_text())["model_type"] == "hanok"
    again = load_model(tmp_path / "own")
    assert torch.equal(again(tokens), model(tokens)) and again.config == model.config
    twin = copy.deepcopy(model)
    for path, module in list(twin.named_modules()):
        if isinstance(module, Linear) and path != "head":
            swap(twin, path, module.pack("int8"))
    packed = twin(tokens)
    torch.testing.assert_close(packed, model(tokens), rtol=0, atol=0.3)
    assert not torch.equal(packed, model(tokens)) and count_model(twin).flops == count_model(model).flops
    for path, module in twin.named_modules():  # no dense copy is left behind
        assert not isinstance(module, Linear) or path == "head" or module.kind == "int8"
    save_model(twin, tmp_path / "int8")
    assert torch.equal(load_model(tmp_path / "int8")(tokens), packed)


@torch.no_grad()
def test_layers_by_themselves_are_the_model() -> None:
    model, tokens = build("adapters"), torch.randint(0, 31, (2, 15))
    early = EarlyExit(model, ExitConfig(layers=(1, 2), threshold=1.0))
    assert torch.equal(early(tokens), model(tokens))
    found = states(model, tokens, Dense(tokens), [1, 3])
    assert len(found) == 2 and torch.equal(found[-1], model.hidden(tokens))
    with pytest.raises(ValueError, match=r"run by Model\.layer"):
        model.blocks[0](model.embed(tokens), Dense(tokens))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": {}}, r"layers use the shared parts \['a'\], but shared names \[\]"),
        ({"shared": {"a": {"mixer": GQA}, "b": {"mixer": GQA}}}, "but shared names"),
        ({"shared": {"a": {"mixer": GQA, "adapters": [{"of": ["mixer.x"], "rank": 2}]}}}, "no product mixer.x"),
        ({"shared": {"a": {"mixer": GQA, "adapters": [{"of": ["ffn.up"], "rank": 2}]}}}, "no product ffn.up"),
        ({"shared": {"a": {"mixer": MAMBA, "adapters": [{"of": ["mixer.out"], "rank": 2}]}}}, "none of mixer"),
        ({"shared": {"a": {"mixer": GQA, "adapters": [{"of": ["mixer.q", "ffn.up"], "rank": 2}]}}}, "share an A"),
        ({"shared": {"a": {"mixer": GQA, "adapters": [*QKV, *QKV]}}}, "two adapters of one product: mixer.k"),
        (
            {"shared": {"a": {"mixer": GQA, "ffn": GEGLU, "adapters": [{"of": ["ffn.up", "ffn.down"], "rank": 2}]}}},
            "do not read the same",
        ),
        ({"layers": {"block": {"mixer": MAMBA, "beside": "a", "wiring": "post"}}}, "wiring 'pre'"),
        ({"layers": {"block": {"mixer": {"kind": "gqa", "heads": 4}, "beside": "a", "depths": {}}}}, "no depths"),
        ({"layers": {"block": {"mixer": GQA, "beside": "a"}}}, "as wide as the model: 16, not 24"),
        ({"layers": {"block": {"mixer": MAMBA, "beside": "keys"}}, "shared": {"keys": {"mixer": GQA}}}, "named 'keys'"),
        ({"layers": {"block": {"mixer": MAMBA, "beside": "a"}}, "mtp": {"depth": 1}}, "not for an encoder or for mtp"),
    ],
)
def test_wrong_configs_are_explained(changes: dict[str, Any], message: str) -> None:
    if "layers" in changes:
        changes = {"pattern": ["block"], **changes}
        changes["layers"]["block"]["mixer"] = {**changes["layers"]["block"]["mixer"]}
        if "not 24" in message:
            changes["layers"]["block"]["mixer"]["out"] = 24
    with pytest.raises(UsageError, match=message):
        Model(config("adapters", **changes), device="meta")


ZAMBA: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "layers_block_type": ["mamba", "hybrid", "hybrid", "mamba", "hybrid"],
    "num_attention_heads": 4,
    "n_mamba_heads": 4,
    "mamba_d_state": 8,
    "adapter_rank": 3,
    "num_mem_blocks": 2,
    "use_shared_attention_adapter": True,
}


def zamba(**changes: Any) -> Any:
    torch.manual_seed(1)
    model = transformers.Zamba2ForCausalLM(transformers.Zamba2Config(**ZAMBA | changes)).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model


@torch.no_grad()
def test_transformers_ties_blocks_only_with_the_head(tmp_path: Path) -> None:
    """Where its head is untied, transformers 5 gives each use a block of its own, with adapters that are never used."""
    theirs, tokens = zamba(tie_word_embeddings=False), torch.randint(0, 101, (2, 30))
    want = theirs(tokens).logits
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert len(ours.config.shared) == 3
    torch.testing.assert_close(ours(tokens), want, rtol=0, atol=1e-4)
    save_model(ours, tmp_path / "ours")
    back = transformers.Zamba2ForCausalLM.from_pretrained(tmp_path / "ours").eval()
    torch.testing.assert_close(back(tokens).logits, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_files_may_repeat_what_is_shared(tmp_path: Path) -> None:
    theirs, tokens = zamba(), torch.randint(0, 101, (2, 30))
    theirs.save_pretrained(tmp_path)
    once = load_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    again = {name.replace("s.1.shared", "s.4.shared"): x for name, x in tensors.items() if "s.1.shared" in name}
    assert len(again) > 10
    save_file(tensors | {name: x.clone() for name, x in again.items()}, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path)(tokens), once(tokens))
    save_file(tensors | {"model.layers.0.shared_transformer.x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=r"layers\.0\.shared_transformer\.x"):
        load_model(tmp_path)


def test_zamba2_has_the_size_of_the_reference() -> None:
    theirs = transformers.Zamba2Config(num_mem_blocks=2, use_shared_attention_adapter=True, use_mem_rope=True)
    with torch.device("meta"):
        want = sum(p.numel() for p in transformers.Zamba2ForCausalLM(theirs).parameters())
    size = count(FAMILIES["zamba2"].read_config(theirs.to_dict()))
    assert size.params == size.params_active == want
    assert size.cache_numbers == 9 * 2 * 5120  # keys and values, twice as wide as the model, of nine uses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers_block_type": ["mamba", "hybird"]}, "layers_block_type must name"),
        ({"num_hidden_layers": 4}, "num_hidden_layers is 4, layers_block_type has 5 entries"),
        ({"n_mamba_heads": 7}, "cannot be divided among 7 n_mamba_heads"),
        ({"num_attention_heads": 1000}, "cannot be divided among 1000 num_attention_heads"),
        ({"num_mem_blocks": 0}, "num_mem_blocks must be"),
        ({"adapter_rank": "8"}, "adapter_rank must be"),
        ({"hidden_act": "tanh"}, "hidden_act"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
    ],
)
def test_zamba2_configs_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FAMILIES["zamba2"].read_config(ZAMBA | changes)
