"""The gated recurrent unit: one gate that blends old and new, one that hides the old while the new is made."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hanok.nn.mixer import MIXERS
from hanok.nn.recurrent import Cell, CellConfig
from hanok.ops.recurrent import gru


@MIXERS.register("gru", paper="Cho et al. 2014, arXiv 1406.1078")
class GRU(Cell):
    """Gated recurrent unit: h_t = (1 - z) n + z h_(t-1), with n = tanh(W x_t + b + r (U h_(t-1) + c)).

    Equal to `torch.nn.GRU` of one layer, whose gates lie in the same order r, z, n.
    """

    class Config(CellConfig):
        """Nothing more to choose."""

        kind: Literal["gru"] = "gru"

    gates, gate_flops = 3, 11

    def run(self, pre: Tensor, state: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        bias = self.hidden_bias(pre)
        rest = 2 * self.width
        outer = torch.cat((bias[:rest], torch.zeros_like(bias[rest:])))  # the last gate's stays inside r (...)
        hs = gru(pre + outer, state[0], weight, bias[rest:])
        return hs, (hs[:, -1],)
