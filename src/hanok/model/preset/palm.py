"""PaLM, whose weights were never published: parallel branches, one key head, no biases anywhere."""

from __future__ import annotations

from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.model.preset.gpt3 import Shape, shape_of
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.mixer.gqa import GQA
from hanok.nn.norm.layernorm import LayerNorm
from hanok.nn.position.rope import RoPE

SIZES = {"8B": Shape(32, 4096, 16), "62B": Shape(64, 8192, 32), "540B": Shape(118, 18432, 48)}  # Table 1


@PRESETS.register("palm", paper="Chowdhery et al. 2022, arXiv 2204.02311")
def palm(
    *,
    size: str = "8B",
    vocab: int = 256000,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    head_dim: int = 256,
    context: int = 2048,
) -> ModelConfig:
    """PaLM in one of its sizes, 8B to 540B: attention and SwiGLU side by side, multi-query, RoPE, tied.

    The paper draws the shared table from a standard normal and divides logits by sqrt(dim). Here the table is drawn
    sqrt(dim) times smaller and its rows are multiplied by sqrt(dim) on the way in, which is the same function.
    """
    shape = shape_of("palm", SIZES, size)
    dim, depth, heads = dim or shape.dim, depth or shape.depth, heads or shape.heads
    norm = LayerNorm.Config(bias="none")
    block = BlockConfig(
        mixer=GQA.Config(heads=heads, kv_heads=1, head_dim=head_dim, position=RoPE.Config(theta=10000.0)),
        ffn=SwiGLU.Config(hidden=4 * dim),
        norm=norm,
        wiring="parallel",
    )
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": block},
        norm=norm,
        context=context,
        embeddings="tied",
        embed=EmbedConfig(scale=dim**0.5),
    )
