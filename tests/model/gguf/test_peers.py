"""GGUF against the gguf package and transformers: they read what we write, and we read what they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hanok.model.gguf.load import load_gguf
from hanok.model.gguf.quant import FORMATS, Format
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.save import save_gguf
from hanok.model.model import Model
from hanok.model.weights import TokenIds

gguf = pytest.importorskip("gguf")
BIAS = {"llama": "none", "qwen2": "qkv"}


@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("name", BIAS)
def test_the_gguf_package_reads_what_we_write(
    name: str, dtype: Any, tmp_path: Path, tiny: Callable[..., Model]
) -> None:
    save_gguf(tiny({"bias": BIAS[name]}), tmp_path / "m.gguf", dtype, ids=TokenIds(1, (2,), 0))
    theirs = gguf.GGUFReader(tmp_path / "m.gguf")
    with GGUF.open(tmp_path / "m.gguf") as ours:
        assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
        for tensor in theirs.tensors:
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_array_equal(ours.read(tensor.name).numpy(), numbers.reshape(tensor.shape[::-1]))
        found = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
        assert found.keys() == ours.metadata.keys()
        assert found["general.architecture"] == name and found[f"{name}.block_count"] == 2
        assert found[f"{name}.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)


@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("name", BIAS)
def test_transformers_gives_the_same_logits(name: str, dtype: Any, tmp_path: Path, tiny: Callable[..., Model]) -> None:
    pytest.importorskip("accelerate")  # transformers asks for it before it reads GGUF
    transformers = pytest.importorskip("transformers")
    save_gguf(
        tiny({"bias": BIAS[name]}, embeddings="tied" if name == "qwen2" else "untied"), tmp_path / "m.gguf", dtype
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    ours = load_gguf(tmp_path / "m.gguf").model
    tokens = torch.randint(300, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_we_read_what_the_gguf_package_writes(format: Format, tmp_path: Path) -> None:
    """A Qwen2 of the package's own writer, whose matrices are in one format, read as the package reads it."""
    rng = np.random.default_rng(4)
    kind = gguf.GGMLQuantizationType(format.id)
    file = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_block_count(1)
    writer.add_feed_forward_length(512)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e6)
    matrices = {"token_embd": (90, 256), "blk.0.attn_q": (256, 256), "blk.0.attn_k": (64, 256)}
    matrices |= {"blk.0.attn_v": (64, 256), "blk.0.attn_output": (256, 256), "blk.0.ffn_gate": (512, 256)}
    matrices |= {"blk.0.ffn_up": (512, 256), "blk.0.ffn_down": (256, 512)}
    vectors = {"blk.0.attn_norm.weight": 256, "blk.0.ffn_norm.weight": 256, "output_norm.weight": 256}
    vectors |= {"blk.0.attn_q.bias": 256, "blk.0.attn_k.bias": 64, "blk.0.attn_v.bias": 64}
    wanted = {name: rng.normal(size=size).astype(np.float32) for name, size in vectors.items()}
    for name, array in wanted.items():
        writer.add_tensor(name, array)
    for name, shape in matrices.items():
        raw = rng.integers(0, 64, (shape[0], format.nbytes(shape[1])), dtype=np.uint8)  # small: every scale is finite
        wanted[f"{name}.weight"] = gguf.quants.dequantize(raw, kind)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = load_gguf(file).model
    assert model.config.context == 64 and model.config.block(0).mixer.position.theta == 1e6
    found = {"embed.weight": "token_embd.weight", "blocks.0.mixer.q.weight": "blk.0.attn_q.weight"}
    found |= {"blocks.0.mixer.k.bias": "blk.0.attn_k.bias", "blocks.0.ffn.down.weight": "blk.0.ffn_down.weight"}
    for ours, theirs in found.items():
        np.testing.assert_array_equal(model.state_dict()[ours].numpy(), wanted[theirs])
