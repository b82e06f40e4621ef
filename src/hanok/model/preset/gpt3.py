"""GPT-3, whose weights were never published: GPT-2's layers in eight sizes."""

from __future__ import annotations

from typing import NamedTuple

from hanok.core.errors import UsageError, suggest
from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn.mlp import MLP
from hanok.nn.mixer.gqa import GQA
from hanok.nn.norm.layernorm import LayerNorm
from hanok.nn.position.learned import LearnedPosition
from hanok.nn.position.none import NoPosition


class Shape(NamedTuple):
    """The numbers that a size stands for."""

    depth: int
    dim: int
    heads: int


# Table 2.1 of the paper. It prints 24 heads of 128 for the 1.3B and a width of 5140 for the 13B; the parameter counts
# of its table D.1 need 16 heads and 5120.
SIZES = {
    "125M": Shape(12, 768, 12),
    "350M": Shape(24, 1024, 16),
    "760M": Shape(24, 1536, 16),
    "1.3B": Shape(24, 2048, 16),
    "2.7B": Shape(32, 2560, 32),
    "6.7B": Shape(32, 4096, 32),
    "13B": Shape(40, 5120, 40),
    "175B": Shape(96, 12288, 96),
}


def shape_of(preset: str, sizes: dict[str, Shape], size: str) -> Shape:
    """Return the numbers of a size; an unknown one is answered with those there are."""
    if size not in sizes:
        raise UsageError(f"preset {preset} has no size {size!r}{suggest(size, sizes)} (it has: {', '.join(sizes)})")
    return sizes[size]


@PRESETS.register("gpt3", paper="Brown et al. 2020, arXiv 2005.14165")
def gpt3(
    *,
    size: str = "125M",
    vocab: int = 50257,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    context: int = 2048,
    band: int | None = None,
) -> ModelConfig:
    """GPT-3 in one of its sizes, 125M to 175B: learned positions, layer norms before the branches, GELU, tied.

    In the paper every second layer looks at a band of the last tokens only, of a width that it does not say: `band`
    (default: no such layers).
    """
    shape = shape_of("gpt3", SIZES, size)
    dim, depth, heads = dim or shape.dim, depth or shape.depth, heads or shape.heads
    layers = {
        name: BlockConfig(
            mixer=GQA.Config(heads=heads, position=NoPosition.Config(), bias="all", window=window),
            ffn=MLP.Config(activation="gelu_tanh", bias="all"),
            norm=LayerNorm.Config(),
        )
        for name, window in ({"block": None} if band is None else {"dense": None, "banded": band}).items()
    }
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers=layers,
        pattern=tuple(layers),
        norm=LayerNorm.Config(),
        context=context,
        embeddings="tied",
        embed=EmbedConfig(position=LearnedPosition.Config(length=context)),
    )
