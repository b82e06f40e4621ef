"""The feed-forward network gated by a ReLU."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from hanok.nn.ffn import FFNS
from hanok.nn.ffn.base import Gated, GatedConfig


@FFNS.register("reglu", paper="Shazeer 2020, arXiv 2002.05202")
class ReGLU(Gated):
    """down(relu(gate(x)) * up(x)): gates that are shut exactly."""

    class Config(GatedConfig):
        """`hidden` is the inner width; by default 8/3 of the model's, rounded up to a multiple of 32."""

        kind: Literal["reglu"] = "reglu"

    def gating(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.relu(gate) * up
