"""Whether a model is still the one that was seen: its modules, parameters and hooks, and where its numbers lie."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

SLICES = 8  # that a model is looked at in, one after the other, when nothing should have changed


class Watch:
    """A model's parts as they were when this was made."""

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._slices = [_Parts(modules[at::SLICES]) for at in range(SLICES)]
        self._turn = 0

    def same(self) -> bool:
        """Say whether every part is the one that was seen, and its numbers lie where they lay."""
        return all(part.same() for part in self._slices)

    def same_here(self) -> bool:
        """Say so of an eighth of the model, another one each time."""
        self._turn = (self._turn + 1) % SLICES
        return self._slices[self._turn].same()

    def hold(self) -> None:
        """Keep the memory that the parts lie in, whoever exchanges them, until it is released."""
        for part in self._slices:
            part.hold()

    def release(self) -> None:
        """Keep it no longer."""
        for part in self._slices:
            part.held.clear()


class _Parts:
    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._owners: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._parts: list[Any] = []
        self._tensors: list[Tensor] = []
        self._hooks: list[dict[Any, Any]] = []
        for module in modules:
            state = vars(module)
            for kind in ("_modules", "_parameters", "_buffers"):
                self._owners += [state[kind]] * len(state[kind])
                self._names += state[kind].keys()
                self._parts += state[kind].values()
            tensors = [*state["_parameters"].values(), *state["_buffers"].values()]
            self._tensors += [tensor for tensor in tensors if tensor is not None]
            self._hooks += [state["_forward_hooks"], state["_forward_pre_hooks"]]
        self._places = list(map(Tensor.data_ptr, self._tensors))
        self.held: list[torch.UntypedStorage] = []

    def hold(self) -> None:
        self.held = [tensor.untyped_storage() for tensor in self._tensors]

    def same(self) -> bool:
        if any(map(len, self._hooks)) or list(map(Tensor.data_ptr, self._tensors)) != self._places:
            return False
        return all(map(operator.is_, map(dict.get, self._owners, self._names), self._parts))
