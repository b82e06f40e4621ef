"""RetNet: a Transformer whose attention is a recurrence that fades."""

from __future__ import annotations

from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.model.preset.gpt3 import Shape, shape_of
from hanok.nn.ffn.mlp import MLP
from hanok.nn.mixer.retention import Retention
from hanok.nn.norm.layernorm import LayerNorm

SIZES = {"1.3B": Shape(24, 2048, 8), "2.7B": Shape(32, 2560, 10), "6.7B": Shape(32, 4096, 16)}  # table 2


@PRESETS.register("retnet", paper="Sun et al. 2023, arXiv 2307.08621")
def retnet(
    *,
    size: str = "1.3B",
    vocab: int = 50257,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    context: int = 2048,
) -> ModelConfig:
    """RetNet in one of its sizes, 1.3B to 6.7B: values twice as wide as keys, a feed-forward network of width 2 dim.

    A layer has 12 dim^2 weights, as a Transformer's has: 8 in the retention, 4 in the network (section 3.1).
    """
    shape = shape_of("retnet", SIZES, size)
    dim, depth, heads = dim or shape.dim, depth or shape.depth, heads or shape.heads
    norm = LayerNorm.Config()
    block = BlockConfig(
        mixer=Retention.Config(heads=heads),
        ffn=MLP.Config(hidden=2 * dim, activation="gelu"),
        norm=norm,
    )
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": block},
        norm=norm,
        context=context,
        embeddings="tied",
    )
