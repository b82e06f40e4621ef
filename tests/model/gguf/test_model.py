"""Models to and from GGUF: nothing is lost, other programs read the same, and what has no words is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.gguf import rope
from hanok.model.gguf.load import is_gguf, load_gguf, read_gguf_config
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.save import save_gguf
from hanok.model.gguf.table import their_name
from hanok.model.gguf.writer import header
from hanok.model.model import Model
from hanok.model.size import stored
from hanok.model.weights import TokenIds
from hanok.nn.linear import Int8Linear, Linear, swap
from hanok.nn.position.scaling import Llama3Scaling
from hanok.ops.rope import rotate

LLAMA3 = {"kind": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 64}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {"embeddings": "tied"}),
    "qwen2": ({"bias": "qkv"}, {}),
    "qwen2 tied": ({"bias": "qkv", "kv_heads": 1}, {"embeddings": "tied"}),
    "all biases": ({"bias": "all", "kv_heads": 4}, {}),
    "own head size": ({"head_dim": 32}, {}),
    "llama 3.1": ({"position": {"kind": "rope", "theta": 500000.0, "scaling": LLAMA3}}, {}),
    "linear": ({"position": {"kind": "rope", "scaling": {"kind": "linear", "factor": 4.0}}}, {}),
    "biases and 3.1": ({"bias": "qkv", "position": {"kind": "rope", "scaling": LLAMA3}}, {}),
}


def _equal(one: Model, other: Model) -> bool:
    ours, theirs = stored(one), stored(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("case", CASES)
def test_f32_comes_back_in_every_bit(case: str, tmp_path: Path, tiny: Callable[..., Model]) -> None:
    mixer, keys = CASES[case]
    model, file = tiny(mixer, {"bias": "all"} if case == "all biases" else {}, **keys), tmp_path / "m.gguf"
    ids = TokenIds(1, (2, 5), 0)
    save_gguf(model, file, ids=ids)
    loaded = load_gguf(file)
    assert loaded.model.config == model.config == read_gguf_config(file)
    assert _equal(model, loaded.model) and loaded.ids == ids
    assert loaded.vocabulary is None and "no vocabulary" in (loaded.note or "")
    tokens = torch.randint(300, (2, 33))
    assert torch.equal(loaded.model(tokens), model(tokens))
    assert (loaded.model.head.weight is loaded.model.embed.weight) == (keys.get("embeddings") == "tied")
    assert [item.name for item in tmp_path.iterdir()] == ["m.gguf"] and is_gguf(file)


@pytest.mark.parametrize(("dtype", "step"), [("f16", 2**-10), ("q8_0", 1 / 127)])
def test_smaller_formats_lose_no_more_than_they_must(
    dtype: Any, step: float, tmp_path: Path, tiny: Callable[..., Model]
) -> None:
    model = tiny()
    save_gguf(model, tmp_path / "m.gguf", dtype)
    for name, tensor in stored(load_gguf(tmp_path / "m.gguf").model).items():
        wanted = stored(model)[name]
        bound = 0.0 if wanted.dim() == 1 else float(wanted.detach().abs().max()) * step * 0.57
        assert float((tensor - wanted).detach().abs().max()) <= bound, name


def test_rows_that_q8_0_cannot_cut_stay_f16(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    save_gguf(tiny(ffn={"hidden": 100}), tmp_path / "m.gguf", "q8_0")
    with GGUF.open(tmp_path / "m.gguf") as file:
        kinds = {name: tensor.format.name for name, tensor in file.tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_packed_weights_are_written_as_their_numbers(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    model = tiny()
    linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    for name, module in linears.items():
        swap(model, name, Int8Linear.from_linear(module))
    save_gguf(model, tmp_path / "m.gguf")
    tokens = torch.randint(300, (1, 9))
    torch.testing.assert_close(load_gguf(tmp_path / "m.gguf").model(tokens), model(tokens))


def test_weights_load_as_the_dtype_that_is_asked_for(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    model = tiny().to(torch.bfloat16)
    save_gguf(model, tmp_path / "m.gguf")
    loaded = load_gguf(tmp_path / "m.gguf", torch.bfloat16).model
    assert loaded.dtype == torch.bfloat16 and _equal(model, loaded)


def _interleaved(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs (2i, 2i + 1) of x (T, H, D) by angles (T, D / 2), as llama.cpp does for llama."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    turned: torch.Tensor = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None])
    return turned.flatten(-2)


def test_llama_files_hold_queries_and_keys_for_interleaved_pairs(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    model = tiny({"bias": "all"}).double()
    save_gguf(model, tmp_path / "m.gguf")
    x, angles = torch.randn(7, 64).double(), torch.randn(7, 8).double()
    mixer = model.get_submodule("blocks.1.mixer")
    scores = []
    with GGUF.open(tmp_path / "m.gguf") as file:
        for part, heads in (("q", 4), ("k", 2)):
            ours = mixer.get_submodule(part)(x).unflatten(-1, (heads, 16))[None]
            mine = rotate(ours, angles.cos()[None], angles.sin()[None])[0]
            weight, bias = (file.read(f"blk.1.attn_{part}.{name}").double() for name in ("weight", "bias"))
            theirs = _interleaved((x @ weight.T + bias).unflatten(-1, (heads, 16)), angles)
            scores.append((mine, theirs))
    (q, their_q), (k, their_k) = scores
    for head in range(4):
        wanted = q[:, head] @ k[:, head // 2].T
        torch.testing.assert_close(their_q[:, head] @ their_k[:, head // 2].T, wanted, rtol=1e-6, atol=1e-6)
        plain = q[:, head] @ their_k[:, head // 2].T  # the control: one of the two in the other order
        assert not torch.allclose(plain, wanted, atol=1e-2)


def test_llama_3_factors_are_those_of_the_model_part() -> None:
    frequencies = 500000.0 ** (-torch.arange(0, 64, 2).double() / 64)
    scaled = Llama3Scaling(**LLAMA3).scale(frequencies)  # type: ignore[arg-type]
    found = rope.factors(500000.0, 64, LLAMA3)  # type: ignore[arg-type]
    np.testing.assert_allclose(frequencies / scaled, found, rtol=1e-12)
    assert found.min() == 1 and found.max() == 8 and len(set(found.round(9))) > 3


def _rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Write a file again with other metadata or tensors (name -> (format, numbers))."""
    from hanok.model.gguf.writer import encode

    with GGUF.open(path) as file:
        metadata = dict(file.metadata)
        tensors = {name: (stored.format, file.read(name).numpy()) for name, stored in file.tensors.items()}
    change(metadata, tensors)
    head = header(metadata, {name: (array.shape, format) for name, (format, array) in tensors.items()})
    path.write_bytes(head + b"".join(b"".join(encode(array, format)) for format, array in tensors.values()))


def test_a_published_llama_3_1_file_has_no_key_of_ours(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    published = {**LLAMA3, "original_context": 8192}
    model = tiny({"head_dim": 64, "position": {"kind": "rope", "theta": 500000.0, "scaling": published}})
    save_gguf(model, tmp_path / "m.gguf")
    _rewrite(tmp_path / "m.gguf", lambda metadata, tensors: metadata.pop(rope.EXACT))
    assert load_gguf(tmp_path / "m.gguf").model.config == model.config


BAD: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "architecture": (lambda m, t: m.update({"general.architecture": "lama"}), "did you mean 'llama'"),
    "architecture of a megabyte": (lambda m, t: m.update({"general.architecture": "llama" * 200_000}), "'llama"),
    "scaling of a megabyte": (lambda m, t: m.update({"llama.rope.scaling.type": "linear" * 200_000}), "'linear"),
    "no architecture": (lambda m, t: m.pop("general.architecture"), "unknown architecture None"),
    "depth a lie": (lambda m, t: m.update({"llama.block_count": np.uint32(1 << 31)}), "block_count"),
    "depth too small": (lambda m, t: m.update({"llama.block_count": np.uint32(1)}), "has no place"),
    "depth too large": (lambda m, t: m.update({"llama.block_count": np.uint32(3)}), "tensors are missing"),
    "heads": (lambda m, t: m.update({"llama.attention.head_count": np.uint32(8)}), "shape"),
    "no heads": (lambda m, t: m.update({"llama.attention.head_count": np.uint32(0)}), "positive"),
    "heads a word": (lambda m, t: m.update({"llama.attention.head_count": "4"}), "whole number"),
    "heads per layer": (lambda m, t: m.update({"llama.attention.head_count": np.array([4, 2], "<u4")}), "whole number"),
    "eps": (lambda m, t: m.update({"llama.attention.layer_norm_rms_epsilon": np.float32("nan")}), "finite"),
    "theta": (lambda m, t: m.update({"llama.rope.freq_base": np.float32(-1)}), "positive"),
    "hidden": (lambda m, t: m.update({"llama.feed_forward_length": np.uint32(97)}), "ffn_gate"),
    "vocabulary": (lambda m, t: m.update({"llama.vocab_size": np.uint32(301)}), "token_embd"),
    "missing key": (lambda m, t: m.pop("llama.context_length"), "'llama.context_length' is missing"),
    "partial rope": (lambda m, t: m.update({"llama.rope.dimension_count": np.uint32(8)}), "dimension_count"),
    "yarn": (lambda m, t: m.update({"llama.rope.scaling.type": "yarn"}), "yarn"),
    "experts": (lambda m, t: m.update({"llama.expert_count": np.uint32(8)}), "expert_count"),
    "window": (lambda m, t: m.update({"llama.attention.sliding_window": np.uint32(64)}), "sliding_window"),
    "split": (lambda m, t: m.update({"split.count": np.uint16(2)}), "merge the parts"),
    "stray tensor": (lambda m, t: t.update({"blk.0.attn_qq.weight": t["output_norm.weight"]}), "did you mean"),
    "missing tensor": (lambda m, t: t.pop("blk.1.ffn_up.weight"), "blk.1.ffn_up.weight"),
    "no embedding": (lambda m, t: t.pop("token_embd.weight"), "token_embd.weight"),
    "shape": (lambda m, t: t.update({"blk.1.ffn_up.weight": t["blk.1.ffn_down.weight"]}), "shape"),
    "factors": (lambda m, t: t.update({rope.FACTORS: (t["output_norm.weight"][0], np.arange(8.0))}), "3.1 scaling"),
    "special token": (lambda m, t: m.update({"tokenizer.ggml.bos_token_id": np.uint32(300)}), "bos_token_id"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_sound_file_with_a_wrong_model_is_refused(case: str, tmp_path: Path, tiny: Callable[..., Model]) -> None:
    change, message = BAD[case]
    save_gguf(tiny(), tmp_path / "m.gguf")
    _rewrite(tmp_path / "m.gguf", lambda metadata, tensors: None)
    load_gguf(tmp_path / "m.gguf")
    _rewrite(tmp_path / "m.gguf", change)
    with pytest.raises(UsageError, match=message) as error:
        load_gguf(tmp_path / "m.gguf")
    assert "m.gguf" in str(error.value) and len(str(error.value)) < 1000


UNSAID: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "window": (lambda c, b: b["mixer"].update(window=16), "mixer.window = 16"),
    "no positions": (lambda c, b: b["mixer"].update(position="none"), "theta"),
    "softcap": (lambda c, b: b["mixer"].update(softcap=30.0), "softcap = 30"),
    "query norm": (lambda c, b: b["mixer"].update(qk_norm="rmsnorm"), "no name for .*q_norm"),
    "scale of the embedding": (lambda c, b: c["embed"].update(scale=8.0), "embed.scale = 8"),
    "wiring": (lambda c, b: b.update(wiring="parallel"), "wiring = 'parallel'"),
    "two epsilons": (lambda c, b: c["norm"].update(eps=1e-3), "norm.eps"),
    "a base that float32 has not": (lambda c, b: b["mixer"]["position"].update(theta=16777217.0), "theta"),
}


@pytest.mark.parametrize("case", UNSAID)
def test_a_model_that_gguf_has_no_words_for_is_refused(case: str, tmp_path: Path, tiny: Callable[..., Model]) -> None:
    change, message = UNSAID[case]
    config = tiny().config
    data = config.to_dict()
    change(data, data["layers"]["block"])
    with pytest.raises(UsageError, match=message):
        save_gguf(Model(type(config).parse(data)), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_layers_of_several_kinds_are_refused_and_of_one_kind_need_no_name(
    tmp_path: Path, tiny: Callable[..., Model]
) -> None:
    data = tiny().config.to_dict()
    block = data["layers"].pop("block")
    data |= {"layers": {"a": block, "b": block}, "pattern": ["a", "b"]}
    save_gguf(Model(type(tiny().config).parse(data)), tmp_path / "m.gguf")
    data["layers"] = {"a": block, "b": {**block, "mixer": {**block["mixer"], "window": 8}}}
    with pytest.raises(UsageError, match="several"):
        save_gguf(Model(type(tiny().config).parse(data)), tmp_path / "n.gguf")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    model, file = tiny(), tmp_path / "m.gguf"
    save_gguf(model, file)
    before = file.read_bytes()
    with torch.no_grad():
        stored(model)["blocks.1.ffn.down.weight"][3, 4] = 1e6
    with pytest.raises(UsageError, match=r"blocks\.1\.ffn\.down\.weight.*65504"):
        save_gguf(model, file, "f16")
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("ids", "message"), [(TokenIds(300), "300"), (TokenIds(eos=(1, 2, 3, 4)), "room for 3")])
def test_special_tokens_that_do_not_fit_are_refused(
    ids: TokenIds, message: str, tmp_path: Path, tiny: Callable[..., Model]
) -> None:
    with pytest.raises(UsageError, match=message):
        save_gguf(tiny(), tmp_path / "m.gguf", ids=ids)


def test_every_weight_has_one_name_on_each_side(tiny: Callable[..., Model]) -> None:
    from hanok.model.gguf.table import our_name

    names = list(stored(tiny({"bias": "all"}, {"bias": "all"})))
    assert len({their_name(name) for name in names}) == len(names)
    assert [our_name(their_name(name) or "") for name in names] == names
    assert our_name("blk.01.attn_q.weight") is None and our_name("blk.{l}.attn_q.weight") is None
