"""LLaMA-style presets: pre-norm RMSNorm, RoPE, grouped-query attention, SwiGLU."""

from __future__ import annotations

from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.mixer.gqa import GQA
from hanok.nn.position.rope import RoPE


@PRESETS.register("llama-tiny", paper="Touvron et al. 2023, arXiv 2302.13971")
def llama_tiny(
    *,
    vocab: int = 1024,
    dim: int = 128,
    depth: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    hidden: int | None = None,
    context: int = 512,
    window: int | None = None,
) -> ModelConfig:
    """A LLaMA of about a million parameters that trains on a laptop's CPU in a minute."""
    block = BlockConfig(
        mixer=GQA.Config(heads=heads, kv_heads=kv_heads, window=window, position=RoPE.Config(theta=10000.0)),
        ffn=SwiGLU.Config(hidden=hidden),
    )
    return ModelConfig(vocab=vocab, dim=dim, depth=depth, layers={"block": block}, context=context, embeddings="tied")


@PRESETS.register("llama-depth", paper="Touvron et al. 2023, arXiv 2302.13971")
def llama_depth(*, depth: int = 4, vocab: int = 1024, context: int = 512) -> ModelConfig:
    """A LLaMA of one dial: 32 features and one 32-wide head per unit of depth, two query heads to a key head."""
    heads = depth + depth % 2
    return llama_tiny(vocab=vocab, dim=32 * heads, depth=depth, heads=heads, kv_heads=heads // 2, context=context)
