"""BERT in its two sizes."""

from __future__ import annotations

from typing import Literal

from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.model.preset.gpt3 import Shape, shape_of
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn.mlp import MLP
from hanok.nn.head import HeadConfig, TransformConfig
from hanok.nn.mixer.gqa import GQA
from hanok.nn.norm.layernorm import LayerNorm
from hanok.nn.position.learned import LearnedPosition
from hanok.nn.position.none import NoPosition

SIZES = {"base": Shape(12, 768, 12), "large": Shape(24, 1024, 16)}


@PRESETS.register("bert", paper="Devlin et al. 2018, arXiv 1810.04805")
def bert(
    *,
    size: str = "base",
    head: Literal["mask", "pooler", "none"] = "mask",
    vocab: int = 30522,
    dim: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    types: int = 2,
    context: int = 512,
) -> ModelConfig:
    """BERT, base or large: an encoder with the head that fills masks, or with a pooler, or with nothing on top."""
    shape = shape_of("bert", SIZES, size)
    dim, depth, heads = dim or shape.dim, depth or shape.depth, heads or shape.heads
    norm = LayerNorm.Config(eps=1e-12)
    block = BlockConfig(
        mixer=GQA.Config(heads=heads, position=NoPosition.Config(), bias="all", see="all"),
        ffn=MLP.Config(activation="gelu", bias="all"),
        norm=norm,
        wiring="post",
    )
    masks = HeadConfig(bias="all", transform=TransformConfig(activation="gelu", norm=norm))
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": block},
        norm=None,
        context=context,
        embeddings="tied" if head == "mask" else "untied",
        embed=EmbedConfig(position=LearnedPosition.Config(length=context), types=types, norm=norm),
        head=masks if head == "mask" else None,
        pooler="tanh" if head == "pooler" else "none",
    )
