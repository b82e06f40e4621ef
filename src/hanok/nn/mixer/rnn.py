"""The Elman network: the state is a squashed sum of the input and the state before it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hanok.nn.mixer import MIXERS
from hanok.nn.recurrent import Cell, CellConfig
from hanok.ops.recurrent import elman


@MIXERS.register("rnn", paper="Elman 1990, Cognitive Science 14(2)")
class RNN(Cell):
    """Simple recurrent network: h_t = tanh(W x_t + b + U h_(t-1) + c).

    Its gradient over k steps is a product of k matrices U^T diag(1 - h^2), which vanishes or explodes with k
    (Bengio et al. 1994). Equal to `torch.nn.RNN` of one layer.
    """

    class Config(CellConfig):
        """`activation` is the squashing function."""

        kind: Literal["rnn"] = "rnn"
        activation: Literal["tanh", "relu"] = "tanh"

    gates, gate_flops = 1, 3
    config: Config

    def run(self, pre: Tensor, state: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        hs = elman(pre + self.hidden_bias(pre), state[0], weight, self.config.activation)
        return hs, (hs[:, -1],)
