"""The gated feed-forward network of LLaMA."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hanok.nn.ffn import FFNS
from hanok.nn.ffn.base import Gated, GatedConfig
from hanok.ops.activation import silu_gate


@FFNS.register("swiglu", paper="Shazeer 2020, arXiv 2002.05202")
class SwiGLU(Gated):
    """down(silu(gate(x)) * up(x)): a linear layer gated by another."""

    class Config(GatedConfig):
        """`hidden` is the inner width; by default 8/3 of the model's, rounded up to a multiple of 32."""

        kind: Literal["swiglu"] = "swiglu"

    def gating(self, gate: Tensor, up: Tensor) -> Tensor:
        return silu_gate(gate, up)
