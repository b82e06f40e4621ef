"""Greedy decoding equals `transformers.generate` on the same random weights, in float64 and float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import hanok

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize(
    ("kv_heads", "dtype"),
    [
        pytest.param(heads, dtype, marks=[] if (heads, dtype) in ((1, "float64"), (4, "float32")) else pytest.mark.slow)
        for dtype in ("float64", "float32")
        for heads in (1, 2, 4)
    ],
)
def test_greedy_equals_transformers(tmp_path: Path, kv_heads: int, dtype: str) -> None:
    torch.manual_seed(kv_heads)
    config = transformers.LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=17,
        pad_token_id=0,
    )
    theirs = transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()
    theirs.save_pretrained(tmp_path)
    ours = hanok.load(tmp_path)
    assert ours.stop_ids == {17}
    prompts = [torch.randint(1, 101, (n,)) for n in (1, 5, 33, 60)]
    options = {"max_tokens": 40, "temperature": 0.0}
    engine = hanok.Engine(ours, page_order="shuffled", chunk=16, num_pages=8)
    outputs = engine.generate([hanok.Request(ids, **options) for ids in prompts])
    for ids, output in zip(prompts, outputs, strict=True):
        with torch.no_grad():
            want = theirs.generate(
                ids[None], attention_mask=torch.ones(1, len(ids), dtype=torch.int64), max_new_tokens=40, do_sample=False
            )
        assert output.tokens == want[0, len(ids) :].tolist()
