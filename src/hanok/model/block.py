"""One layer: a mixer, perhaps a look at a source, perhaps a feed-forward network, on the residual stream."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from hanok.model.config import BlockConfig
from hanok.model.wiring import add_up, norm_names
from hanok.nn.context import Context, Memory
from hanok.nn.cross import CROSSES
from hanok.nn.ffn import FFNS
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS


class Block(nn.Module):
    """The branches of a layer in their order, mixer, cross and ffn, wired as the config says (`model/wiring.py`)."""

    def __init__(self, config: BlockConfig, dim: int, layer: int) -> None:
        super().__init__()
        self.wiring, self.residual = config.wiring, config.residual
        self.mixer = MIXERS[config.mixer.kind](config.mixer, dim, layer)
        self.cross = CROSSES[config.cross.kind](config.cross, dim, layer) if config.cross else None
        self.ffn = FFNS[config.ffn.kind](config.ffn, dim) if config.ffn else None
        parts = {"mixer": self.mixer, "cross": self.cross, "ffn": self.ffn}
        self.branches = [name for name, part in parts.items() if part is not None]
        self.norms = norm_names(config.wiring, self.branches)
        for name in self.norms:
            self.add_module(name, NORMS[config.norm.kind](config.norm, dim))

    def memory(self) -> Memory:
        """Return what the mixer keeps of the past."""
        kept: Memory = self.mixer.memory()
        return kept

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        run = {name: self.get_submodule(name) for name in self.branches}
        branches = {name: part if name == "ffn" else partial(part, ctx=ctx) for name, part in run.items()}
        norms = {name: self.get_submodule(name) for name in self.norms}
        return add_up(self.wiring, x, branches, norms, self.residual)
