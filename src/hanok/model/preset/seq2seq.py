"""Sequence to sequence before the Transformer: one recurrent network reads, another writes."""

from __future__ import annotations

from typing import Any, Literal

from hanok.core.errors import UsageError
from hanok.model.config import BlockConfig, ModelConfig, StackConfig
from hanok.model.preset import PRESETS
from hanok.model.preset.recurrent import CELLS, Word
from hanok.nn.cross.additive import AdditiveAttention
from hanok.nn.cross.attention import CrossAttention
from hanok.nn.cross.fixed import FixedContext
from hanok.nn.norm.layernorm import LayerNorm


@PRESETS.register("seq2seq", paper="Sutskever et al. 2014, arXiv 1409.3215; Bahdanau et al. 2014, arXiv 1409.0473")
def seq2seq(
    *,
    vocab: int = 1024,
    dim: int = 256,
    depth: int = 2,
    cell: Word = "lstm",
    cross: Literal["fixed", "additive", "attention", "none"] = "additive",
    heads: int = 1,
    context: int = 512,
) -> ModelConfig:
    """Two stacks of recurrent networks, and what the second sees of the first: its last state, or all by attention.

    `cross` is the step that history took: fixed (2014, one vector), additive (2014, the first attention), attention
    (2017, `heads` scaled products); none shows what can be written without having read. Around them, residual streams
    and layer norms, which the originals did not have; the encoder reads in one direction.
    """
    ways: dict[str, Any] = {
        "fixed": FixedContext.Config(),
        "additive": AdditiveAttention.Config(),
        "attention": CrossAttention.Config(heads=heads),
        "none": None,
    }
    if cross not in ways:
        raise UsageError(f"preset seq2seq: cross must be one of {', '.join(ways)}, not {cross!r}")
    if cross == "fixed" and depth < 2:
        raise UsageError("preset seq2seq: with cross fixed, depth must be at least 2 (nn/cross/fixed.py says why)")
    norm = LayerNorm.Config()
    decoder = BlockConfig(mixer=CELLS[cell](kind=cell), cross=ways[cross], norm=norm, wiring="post")
    encoder = BlockConfig(mixer=CELLS[cell](kind=cell), norm=norm, wiring="post")
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": decoder},
        norm=None,
        context=context,
        embeddings="tied",
        encoder=StackConfig(depth=depth, layers={"block": encoder}, norm=None),
    )
