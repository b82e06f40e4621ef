"""The gated feed-forward network of T5 1.1 and Gemma."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hanok.nn.ffn import FFNS
from hanok.nn.ffn.base import Gated, GatedConfig
from hanok.ops.activation import ACTIVATIONS


@FFNS.register("geglu", paper="Shazeer 2020, arXiv 2002.05202")
class GeGLU(Gated):
    """down(gelu(gate(x)) * up(x)), with the exact GELU or its tanh approximation."""

    class Config(GatedConfig):
        """`activation`: T5 and Gemma take the tanh approximation."""

        kind: Literal["geglu"] = "geglu"
        activation: Literal["gelu", "gelu_tanh"] = "gelu_tanh"

    config: Config

    def gating(self, gate: Tensor, up: Tensor) -> Tensor:
        return ACTIVATIONS[self.config.activation](gate) * up
