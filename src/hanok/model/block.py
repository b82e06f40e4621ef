"""One layer: a mixer, perhaps a look at a source, perhaps a feed-forward network, on the residual stream."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from hanok.model.config import BlockConfig
from hanok.model.depths import Depths, on_rows
from hanok.model.wiring import Norms, add_up, norm_names
from hanok.nn.context import Context, Memory
from hanok.nn.cross import CROSSES
from hanok.nn.ffn import FFNS
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.nn.router.base import Router


class Block(nn.Module):
    """The branches of a layer in their order, mixer, cross and ffn, wired as the config says (`model/wiring.py`)."""

    def __init__(self, config: BlockConfig, dim: int, layer: int) -> None:
        super().__init__()
        self.beside = config.beside
        self.wiring, self.residual = config.wiring, config.residual
        self.mixer = MIXERS[config.mixer.kind](config.mixer, dim, layer)
        self.cross = CROSSES[config.cross.kind](config.cross, dim, layer) if config.cross else None
        self.ffn = FFNS[config.ffn.kind](config.ffn, dim) if config.ffn else None
        parts = {"mixer": self.mixer, "cross": self.cross, "ffn": self.ffn}
        self.branches = {name: part for name, part in parts.items() if part is not None}
        self.norms = {
            name: NORMS[config.norm.kind](config.norm, dim) for name in norm_names(config.wiring, [*self.branches])
        }
        for name, norm in self.norms.items():
            self.add_module(name, norm)
        self.depths = Depths(config.depths, dim) if config.depths else None
        if config.depths is not None:
            self.memory()  # refuses what cannot be passed by
            for module in (self if config.depths.over == "block" else self.ffn or self).modules():
                if isinstance(module, Linear | Router):
                    module.active = module.active * config.depths.share

    def memory(self) -> Memory:
        """Return what the mixer keeps of the past."""
        kept: Memory = self.mixer.memory()
        return kept if self.depths is None else self.depths.memory(kept)

    def forward(self, x: Tensor, ctx: Context, active: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """Return x (B,T,dim) after this layer; only for `active` tokens (B,T), if given, is the ffn computed.

        `beside` (B,T,dim) is what the shared part that the config names made, to be read by the mixer too.
        """
        if (beside is None) != (self.beside is None):
            raise ValueError("a layer with a shared part beside it is run by Model.layer")
        if self.depths is not None and self.depths.config.over == "block":
            passed: Tensor = self.depths(x, ctx, self._layer)
            return passed
        return self._layer(x, ctx, active, beside)

    def _layer(self, x: Tensor, ctx: Context, active: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        branches = {name: part if name == "ffn" else partial(part, ctx=ctx) for name, part in self.branches.items()}
        if active is not None and self.ffn is not None:
            branches["ffn"] = partial(on_rows, self.ffn, rows=active)
        elif self.depths is not None and self.depths.config.over == "ffn" and self.ffn is not None:
            branches["ffn"] = partial(self.depths.branch, ctx=ctx, ffn=self.ffn)
        norms: Norms = self.norms
        if beside is not None:
            norms = {**self.norms, "mixer_norm": lambda y: self.norms["mixer_norm"](y + beside)}
        return add_up(self.wiring, x, branches, norms, self.residual)
