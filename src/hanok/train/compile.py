"""A model's forward as compiled code on the same weights, for objectives to call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.ops.numerics import current

CACHE = "TORCHINDUCTOR_CACHE_DIR"


class Compiled:
    """Looks like the model to an objective; `hidden` over whole sequences, and `logits`, run as compiled code.

    One graph is made for each shape of a batch, so that batches should have one; the model's weights stay the
    model's, and whatever else is asked for is answered by the model itself.
    """

    def __init__(self, model: Model, backend: str = "inductor") -> None:
        self.model = model
        torch.compiler.assume_constant_result(current)
        self._whole = torch.compile(self._hidden, dynamic=False, backend=backend)
        self._logits = torch.compile(model.logits, backend=backend)
        self._lengths: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def hidden(self, tokens: Tensor, ctx: Any = None) -> Tensor:
        """Return the states (B,T,dim) before the head."""
        if ctx is None:
            ctx = Dense(tokens)
        if not self._fits(ctx):
            return self.model.hidden(tokens, ctx)
        if tokens.shape[1] not in self._lengths:
            self._lengths.add(tokens.shape[1])
            with torch.no_grad():  # tables of positions are made outside the graph, which then finds them
                self._hidden(tokens[:1], ctx.positions[:1], None)
        out: Tensor = self._whole(tokens, ctx.positions, ctx.segments)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of each state."""
        out: Tensor = self._logits(hidden)
        return out

    def _hidden(self, tokens: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        return self.model.hidden(tokens, Dense(tokens, positions, segments))

    def _fits(self, ctx: Any) -> bool:
        """Say whether these are whole sequences from position 0, which is what the graph is made for."""
        if not isinstance(ctx, Dense) or ctx.source is not None or ctx.prefix is not None or current() != "fast":
            return False
        return bool(ctx.positions.amax() < ctx.positions.shape[1])


def compiled(model: Model) -> Compiled:
    """Return the compiled form of a model; what the compiler makes is kept for the next run.

    The first step then takes about half a minute, or a few seconds where the cache knows the model; it pays from a few
    hundred steps on.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hanok" / "inductor"
    os.environ.setdefault(CACHE, str(cache))
    return Compiled(model)
