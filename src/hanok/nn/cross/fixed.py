"""A fixed context vector: all that the first encoder-decoders let through of a source."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, Made
from hanok.nn.cross import CROSSES
from hanok.nn.linear import Linear


@CROSSES.register("fixed", paper="Cho et al. 2014, arXiv 1406.1078; Sutskever et al. 2014, arXiv 1409.3215")
class FixedContext(nn.Module):
    """The encoder's state h_S at the last token of the source, given to every step of the decoder: y_t = o(h_S).

    However long the source, one vector of the model's width is all that a step learns of it. In a layer it stands
    behind the recurrent network, so that the next layer's is the first to take it in: stacks need two layers. It asks
    nothing of x, so that a norm before it (`wiring: pre`) learns nothing; `post` has none such.
    """

    class Config(PartConfig):
        """Nothing to choose."""

        kind: Literal["fixed"] = "fixed"

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.o = Linear(dim, dim)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return ctx.look(self.layer, x, self._make, self._read)

    def _make(self, states: Tensor) -> Made:
        return (states,)

    def _read(self, x: Tensor, positions: Tensor, made: Made, seen: Tensor) -> Tensor:
        at = torch.arange(seen.shape[1], device=seen.device)
        last = torch.where(seen, at, -1).amax(1)
        context: Tensor = self.o(made[0][torch.arange(len(last), device=seen.device), last])
        return context.unsqueeze(1).expand(-1, x.shape[1], -1)
