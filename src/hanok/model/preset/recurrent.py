"""Language models of recurrent networks: a state instead of a look back."""

from __future__ import annotations

from typing import Literal

from hanok.core.config import PartConfig
from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.nn.mixer.gru import GRU
from hanok.nn.mixer.lstm import LSTM
from hanok.nn.mixer.rnn import RNN
from hanok.nn.norm.layernorm import LayerNorm

Word = Literal["rnn", "lstm", "gru"]
CELLS: dict[Word, type[PartConfig]] = {"rnn": RNN.Config, "lstm": LSTM.Config, "gru": GRU.Config}


@PRESETS.register("rnn-lm", paper="Elman 1990; Mikolov et al. 2010, Interspeech")
def rnn_lm(*, vocab: int = 1024, dim: int = 256, depth: int = 2, context: int = 512) -> ModelConfig:
    """A language model of simple recurrent networks, each around a residual stream (the first had neither)."""
    return stacked("rnn", vocab, dim, depth, context)


@PRESETS.register("lstm-lm", paper="Hochreiter and Schmidhuber 1997; Zaremba et al. 2014, arXiv 1409.2329")
def lstm_lm(*, vocab: int = 1024, dim: int = 256, depth: int = 2, context: int = 512) -> ModelConfig:
    """A language model of long short-term memories."""
    return stacked("lstm", vocab, dim, depth, context)


@PRESETS.register("gru-lm", paper="Cho et al. 2014, arXiv 1406.1078; Chung et al. 2014, arXiv 1412.3555")
def gru_lm(*, vocab: int = 1024, dim: int = 256, depth: int = 2, context: int = 512) -> ModelConfig:
    """A language model of gated recurrent units."""
    return stacked("gru", vocab, dim, depth, context)


def stacked(cell: Word, vocab: int, dim: int, depth: int, context: int) -> ModelConfig:
    """Return layers of one kind of cell, nothing else in them, with tied embeddings."""
    norm = LayerNorm.Config()
    block = BlockConfig(mixer=CELLS[cell](kind=cell), norm=norm)
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": block},
        norm=norm,
        context=context,
        embeddings="tied",
    )
