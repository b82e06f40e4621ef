"""What the loop asks of an optimiser, and how parameters are named, grouped and counted."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError


class Optimizer(Protocol):
    """Moves the parameters it owns; its state is named tensors and JSON, never a pickle."""

    lr: float
    parameters: Sequence[nn.Parameter]

    def step(self, factor: float) -> None:
        """Move every parameter, with all learning rates multiplied by the schedule's factor."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state as tensors by name and JSON-able data."""
        ...

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state, to the last bit."""
        ...


@dataclass(frozen=True)
class Slot:
    """A trainable parameter, its name, and the module that it belongs to."""

    name: str
    parameter: nn.Parameter
    owner: nn.Module


def slots(model: nn.Module) -> list[Slot]:
    """Return each trainable parameter once, in the model's order."""
    modules = dict(model.named_modules())
    found = [
        Slot(name, parameter, modules[name.rpartition(".")[0]])
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    if not found:
        raise UsageError("the model has no trainable parameter")
    return found


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a parameter's name fits one of the shell-style patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(patterns: Iterable[str], model: nn.Module, option: str) -> None:
    """Refuse a pattern that fits no parameter: it could have no effect."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            raise UsageError(f"{option}: the pattern {pattern!r} fits no parameter (they look like {names[0]!r})")


def check_cover(model: nn.Module, *groups: Iterable[nn.Parameter]) -> None:
    """Assert that every trainable parameter is in exactly one group."""
    owned = [id(parameter) for group in groups for parameter in group]
    wanted = {id(slot.parameter) for slot in slots(model)}
    assert len(owned) == len(set(owned)), "a parameter belongs to two optimiser groups"
    assert set(owned) == wanted, f"{len(wanted - set(owned))} trainable parameters belong to no optimiser group"


def take(tensors: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return a saved tensor, checked against the one that it replaces."""
    if name not in tensors:
        raise UsageError(f"the saved optimiser state lacks {name!r}: it belongs to another model or optimiser")
    if tensors[name].shape != like.shape:
        raise UsageError(f"the saved {name!r} has the shape {list(tensors[name].shape)}, not {list(like.shape)}")
    return tensors[name].to(like.device, like.dtype)


def native_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return any(able.get(feature, False) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
