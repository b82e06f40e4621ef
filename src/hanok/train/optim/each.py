"""What optimisers share that treat each parameter by itself: groups, decay, and a state of named tensors."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.train.optim.base import (
    Growths,
    Optimizer,
    Slot,
    check_cover,
    check_patterns,
    laid_like,
    matches,
    slots,
    take,
    whole,
)

Held = dict[str, Tensor]


class EachConfig(PartConfig):
    """Rate and decay; vectors (norms, biases) never decay, nor do parameters that fit `no_decay`."""

    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    no_decay: tuple[str, ...] = ()


class Each(Optimizer):
    """p = p (1 - lr wd) - change: a subclass says what it holds for a parameter (`fresh`) and what changes (`change`).

    A parameter without a gradient keeps still, and so does what is held for it. Decay is decoupled (arXiv:1711.05101).
    Where the entries of a parameter are looked at together (not `entrywise`) and it is divided over processes, each of
    these gathers the gradient, and holds all that is held for it.
    """

    kind: ClassVar[str]
    entrywise: ClassVar[bool] = True

    def __init__(self, config: EachConfig, model: nn.Module, growth: Growths | None = None) -> None:
        check_patterns(config.no_decay, model, "no_decay")
        self.lr, self.weight_decay = config.lr, config.weight_decay
        self.slots = slots(model, growth)
        self.parameters = [slot.parameter for slot in self.slots]
        check_cover(model, self.parameters)
        vectors = {slot.name for slot in self.slots if slot.parameter.ndim < 2}
        self._spared = vectors | {slot.name for slot in self.slots if matches(slot.name, config.no_decay)}
        self._held: dict[str, Held] = {}
        self._moved: dict[str, int] = {}

    def fresh(self, slot: Slot) -> Held:
        """Return what is held for a parameter that has never moved, by name."""
        raise NotImplementedError

    def change(self, slot: Slot, grad: Tensor, held: Held, lr: float) -> Tensor | None:
        """Return what to subtract from a parameter, and update what is held; None leaves it alone this time."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move every parameter that has a gradient."""
        lr = self.lr * factor
        for slot in self.slots:
            parameter = slot.parameter
            if parameter.grad is None:
                continue
            self._moved[slot.name] = self.moved(slot) + 1
            grad = parameter.grad if self.entrywise else whole(parameter.grad)
            change = self.change(slot, grad, self.held(slot), lr)
            if change is None:
                continue
            if not self.entrywise:
                change = laid_like(change, parameter)
            if self.weight_decay and slot.name not in self._spared:
                parameter.mul_(1 - lr * self.weight_decay)
            parameter.sub_(change)

    def zeros(self, slot: Slot, *shape: int) -> Tensor:
        """Return zeros to hold for a parameter, of its shape or another: divided as it is, or whole."""
        parameter = slot.parameter
        if self.entrywise:
            return torch.zeros_like(parameter)
        return torch.zeros(shape or parameter.shape, dtype=parameter.dtype, device=parameter.device)

    def held(self, slot: Slot) -> Held:
        """Return what is held for a parameter."""
        if slot.name not in self._held:
            self._held[slot.name] = self.fresh(slot)
        return self._held[slot.name]

    def moved(self, slot: Slot) -> int:
        """Return in how many steps a parameter has had a gradient, this one counted."""
        return self._moved.get(slot.name, 0)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what is held for each parameter that has moved, and how often it has."""
        tensors = {f"{name}.{key}": value for name, held in self._held.items() for key, value in held.items()}
        return tensors, {"kind": self.kind, "moved": dict(self._moved)}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state."""
        held = {}
        for slot in self.slots:
            fresh = self.fresh(slot)
            if any(f"{slot.name}.{key}" in tensors for key in fresh):
                held[slot.name] = {
                    key: take(tensors, f"{slot.name}.{key}", like).clone() for key, like in fresh.items()
                }
        self._held, self._moved = held, {name: int(count) for name, count in data["moved"].items()}
