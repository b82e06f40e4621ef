"""One layer: a mixer and a feed-forward network on the residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from hanok.model.config import BlockConfig
from hanok.nn.context import Context, Memory
from hanok.nn.ffn import FFNS
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS


class Block(nn.Module):
    """x + mixer(norm(x)), then x + ffn(norm(x)): the pre-norm wiring (Xiong et al. 2020, arXiv 2002.04745)."""

    def __init__(self, config: BlockConfig, dim: int, layer: int) -> None:
        super().__init__()
        norm = NORMS[config.norm.kind]
        self.mixer_norm = norm(config.norm, dim)
        self.mixer = MIXERS[config.mixer.kind](config.mixer, dim, layer)
        self.ffn_norm = norm(config.norm, dim)
        self.ffn = FFNS[config.ffn.kind](config.ffn, dim)

    def memory(self) -> Memory:
        """Return what the mixer keeps of the past."""
        kept: Memory = self.mixer.memory()
        return kept

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = x + self.mixer(self.mixer_norm(x), ctx)
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out
