"""Long short-term memory: a cell that is added to, and gates that open and close it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hanok.nn.mixer import MIXERS
from hanok.nn.recurrent import Cell, CellConfig
from hanok.ops.recurrent import lstm


@MIXERS.register("lstm", paper="Hochreiter and Schmidhuber 1997, Neural Computation 9(8)")
class LSTM(Cell):
    """Long short-term memory: c_t = f c_(t-1) + i g, h_t = o tanh(c_t), with i, f, g, o made of x_t and h_(t-1).

    The way back through c is a product of forget gates alone, so that a gate near one keeps a gradient alive.
    Equal to `torch.nn.LSTM` of one layer, whose gates lie in the same order i, f, g, o.
    """

    class Config(CellConfig):
        """Nothing more to choose."""

        kind: Literal["lstm"] = "lstm"

    gates, pieces, gate_flops = 4, 2, 12

    def reset(self, generator: torch.Generator) -> None:
        """Start with open forget gates (a bias of one: Jozefowicz et al. 2015, section 2.2)."""
        if self.input.bias is not None:
            with torch.no_grad():
                self.input.bias.zero_()
                self.input.bias[self.width : 2 * self.width] = 1.0

    def run(self, pre: Tensor, state: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        hs, c = lstm(pre + self.hidden_bias(pre), state[0], state[1], weight)
        return hs, (hs[:, -1], c)
