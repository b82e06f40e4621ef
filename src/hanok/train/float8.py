"""8-bit products for a whole model while it learns: which layers take them, and what of it a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.nn.linear import Linear
from hanok.ops.float8 import GRAIN, ROLES, Float8, has_units
from hanok.text.batch import Batch
from hanok.train.hook import Hook, Record
from hanok.train.optim.base import matches
from hanok.train.state import TrainState

KEPT = "float8"  # the name in TrainState.extra


class Float8Config(Config):
    """One scale for a "tensor" or for each "row"; from the "current" numbers, or from a `history` of steps ("delayed").

    `keep` are patterns of layers that stay in bfloat16, as the head usually does.
    """

    scale: Literal["tensor", "row"] = "tensor"
    amax: Literal["current", "delayed"] = "current"
    history: int = Field(16, ge=1)
    keep: tuple[str, ...] = ("head",)

    def product(self, *, real: bool) -> Float8:
        """Return the product of one layer."""
        if self.amax == "delayed" and self.scale == "row":
            raise UsageError("float8: rows have no history, since each step has others: amax 'delayed' needs 'tensor'")
        return Float8(self.scale, self.history if self.amax == "delayed" else 0, real)


class Float8Layers(Hook):
    """The layers of a model that multiply in 8 bits: each Linear whose sizes are multiples of 16, but for those kept.

    Where the device has no units for it the same numbers are computed in float32: nothing is gained but the knowledge
    of what they would be. Validation and sampling multiply as the weights are stored.
    """

    def __init__(self, model: nn.Module, config: Float8Config) -> None:
        linears = {name: part for name, part in model.named_modules() if isinstance(part, Linear)}
        for pattern in config.keep:
            if not any(matches(name, [pattern]) for name in linears):
                raise UsageError(f"loop.float8.keep: the pattern {pattern!r} fits no layer (as {next(iter(linears))})")
        chosen = {
            name: part
            for name, part in linears.items()
            if type(part) is Linear
            and not matches(name, config.keep)
            and part.inputs % GRAIN == part.outputs % GRAIN == 0
        }
        if not chosen:
            raise UsageError(f"float8: this model has no layer whose sizes are multiples of {GRAIN}")
        if any(type(part.weight) is not nn.Parameter for part in chosen.values()):
            raise UsageError("float8 multiplies whole weights: with sharded ones, use compute 'bfloat16'")
        self._layers = chosen
        self.products = {
            name: config.product(real=has_units(part.weight.device)) for name, part in self._layers.items()
        }

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the layers multiply in 8 bits inside the `with` block."""
        for name, part in self._layers.items():
            part.product = self.products[name]
        try:
            yield
        finally:
            for part in self._layers.values():
                del part.product

    def after_step(self, state: TrainState, record: Record) -> None:
        """Take what this step saw into the histories."""
        for product in self.products.values():
            product.roll(keep=True)

    def skipped(self, state: TrainState, batches: Sequence[Batch], record: Record) -> None:
        """Forget what a refused step saw."""
        for product in self.products.values():
            product.roll(keep=False)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the histories."""
        return {
            f"{name}/{role}": past for name, product in self.products.items() for role, past in product.past.items()
        }, {}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to saved histories."""
        for name, product in self.products.items():
            device = self._layers[name].weight.device
            product.past = {role: tensors[f"{name}/{role}"].to(device) for role in ROLES if f"{name}/{role}" in tensors}


def float8_layers(state: TrainState, config: Float8Config) -> Float8Layers:
    """Return the run's layers if it keeps any, or new ones."""
    kept = state.extra.get(KEPT)
    return kept if isinstance(kept, Float8Layers) else Float8Layers(state.model, config)
