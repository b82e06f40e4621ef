"""Recurrent presets after Griffin: gated linear recurrences, alone or with local attention."""

from __future__ import annotations

from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.mixer.gqa import GQA
from hanok.nn.mixer.rglru import RGLRU


@PRESETS.register("rglru-tiny", paper="De et al. 2024 (Griffin), arXiv 2402.19427")
def rglru_tiny(*, vocab: int = 1024, dim: int = 128, depth: int = 4, context: int = 512) -> ModelConfig:
    """A purely recurrent model (Hawk) of about a million parameters: its memory does not grow with the text."""
    block = BlockConfig(mixer=RGLRU.Config(), ffn=SwiGLU.Config())
    return ModelConfig(vocab=vocab, dim=dim, depth=depth, layers={"block": block}, context=context, embeddings="tied")


@PRESETS.register("griffin-tiny", paper="De et al. 2024 (Griffin), arXiv 2402.19427")
def griffin_tiny(
    *,
    vocab: int = 1024,
    dim: int = 128,
    depth: int = 6,
    heads: int = 4,
    kv_heads: int = 1,
    window: int = 128,
    context: int = 512,
) -> ModelConfig:
    """A hybrid: two recurrent layers to one of sliding-window attention."""
    recurrent = BlockConfig(mixer=RGLRU.Config(), ffn=SwiGLU.Config())
    local = BlockConfig(mixer=GQA.Config(heads=heads, kv_heads=kv_heads, window=window), ffn=SwiGLU.Config())
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"recurrent": recurrent, "local": local},
        pattern=("recurrent", "recurrent", "local"),
        context=context,
        embeddings="tied",
    )
