"""What the loop asks of an optimiser, and how parameters are named, grouped and counted."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.train.objective.policy import Objective


class Optimizer(Protocol):
    """Moves the parameters it owns; its state is named tensors and JSON, never a pickle.

    One that wants to see another gradient before some of its steps, such as that of a curvature estimate, says so with
    `probe`: the loop then takes the gradient of that objective on the step's own batches, calls `observe`, and puts the
    step's gradient back. A step that is refused is not probed.
    """

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

    def probe(self, rank: int) -> Objective | None:
        """Return the objective whose gradient is wanted before the next step; `rank` seeds what it draws."""
        return None

    def observe(self, count: float) -> None:
        """Look at the gradient of the probe, the mean over `count` units, which the parameters now hold."""
        del count  # of a gradient that was not asked for


@dataclass(frozen=True)
class Growth:
    """How much larger a parameter is than in the model that the learning rates were found on (`train/transfer.py`).

    `inputs` and `outputs` are the ratios of a matrix's columns and rows, 1 for all that is no matrix; `start` is the
    ratio of the initial deviations; `pace` multiplies the rate whatever the optimiser.
    """

    inputs: float = 1.0
    outputs: float = 1.0
    start: float = 1.0
    pace: float = 1.0

    @property
    def by_sign(self) -> float:
        """Return the factor on the rate of an optimiser whose steps have entries of a size of their own, as Adam's.

        Such a step adds up over the inputs, so that its effect grows with their number (arXiv:2203.03466, table 8).
        """
        return self.pace / self.inputs


SAME = Growth()
Growths = Mapping[str, Growth]


@dataclass(frozen=True)
class Slot:
    """A trainable parameter, its name, the module that it belongs to, and how it has grown."""

    name: str
    parameter: nn.Parameter
    owner: nn.Module
    growth: Growth = SAME


def slots(model: nn.Module, growth: Growths | None = None) -> list[Slot]:
    """Return each trainable parameter once, in the model's order."""
    modules = dict(model.named_modules())
    found = [
        Slot(name, parameter, modules[name.rpartition(".")[0]], (growth or {}).get(name, SAME))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    if not found:
        raise UsageError("the model has no trainable parameter")
    return found


def mesh_of(parameter: Tensor) -> object:
    """Return the mesh of processes that a parameter is divided over, or None: kernels take one mesh at a time."""
    return getattr(parameter, "device_mesh", None)  # a DTensor's; the import of that class takes a second


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be divided over processes, which then all have to ask."""
    return tensor if mesh_of(tensor) is None else tensor.full_tensor()  # type: ignore[attr-defined]


def laid_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor, equal on all processes, divided as a parameter is."""
    if mesh_of(parameter) is None:
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    alike = DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return alike.redistribute(mesh, parameter.placements)


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
    """Return a saved tensor, checked against the one that it replaces, whole where that is.

    It comes divided as the weight of its name is, and some optimisers hold whole what they know of a divided weight.
    """
    if name not in tensors:
        raise UsageError(f"the saved optimiser state lacks {name!r}: it belongs to another model or optimiser")
    found = tensors[name]  # once: it may be read from a file
    if found.shape != like.shape:
        raise UsageError(f"the saved {name!r} has the shape {list(found.shape)}, not {list(like.shape)}")
    found = found if mesh_of(like) is not None else whole(found)
    return found.to(like.device, like.dtype)
