"""The Transformer of 2017: an encoder and a decoder, norms behind the branches, sines for positions, ReLU."""

from __future__ import annotations

from typing import Literal

from hanok.model.config import BlockConfig, ModelConfig, StackConfig
from hanok.model.preset import PRESETS
from hanok.model.preset.gpt3 import Shape, shape_of
from hanok.nn.cross.attention import CrossAttention
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn.mlp import MLP
from hanok.nn.mixer.gqa import GQA
from hanok.nn.norm.layernorm import LayerNorm
from hanok.nn.position.none import NoPosition
from hanok.nn.position.sinusoidal import SinusoidalPosition

SIZES = {"base": Shape(6, 512, 8), "big": Shape(6, 1024, 16)}  # table 3


@PRESETS.register("transformer", paper="Vaswani et al. 2017, arXiv 1706.03762")
def transformer(
    *,
    size: str = "base",
    vocab: int = 37000,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    bias: Literal["none", "all"] = "all",
    context: int = 512,
) -> ModelConfig:
    """The encoder-decoder of "Attention is all you need" in one of its sizes, base or big; `depth` is each stack's.

    One table serves the source, the target and the logits; its rows are multiplied by sqrt(dim) on the way in.
    """
    shape = shape_of("transformer", SIZES, size)
    dim, depth, heads = dim or shape.dim, depth or shape.depth, heads or shape.heads
    norm = LayerNorm.Config(eps=1e-6)

    def block(see: Literal["past", "all"]) -> BlockConfig:
        return BlockConfig(
            mixer=GQA.Config(heads=heads, position=NoPosition.Config(), bias=bias, see=see),
            cross=CrossAttention.Config(heads=heads, bias=bias) if see == "past" else None,
            ffn=MLP.Config(activation="relu", bias="all"),
            norm=norm,
            wiring="post",
        )

    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": block("past")},
        norm=None,
        context=context,
        embeddings="tied",
        embed=EmbedConfig(scale=dim**0.5, position=SinusoidalPosition.Config()),
        encoder=StackConfig(depth=depth, layers={"block": block("all")}, norm=None),
    )
