"""Processors: what a request's own text so far does to its next logits, before temperature and filters see them.

They act in the order of their numbers (`order`), each on what the one before left, and only on rows that want them.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from hanok.core.registry import Registry
from hanok.engine.sequence import Sequence


class Place(NamedTuple):
    """Where a row of logits stands: behind a sequence's tokens, and behind tokens that are only guessed so far."""

    sequence: Sequence
    drafted: tuple[int, ...] = ()

    @property
    def generated(self) -> list[int]:
        """Return what was drawn before this place, guesses included."""
        return [*self.sequence.tokens[self.sequence.prompt :], *self.drafted]


class Processor(Protocol):
    """A change of logits (N,V), float32 or float64, one row for each place; forbidden tokens become -inf."""

    order: ClassVar[int]

    @staticmethod
    def wanted(place: Place) -> bool: ...

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor: ...


PROCESSORS: Registry[type[Processor]] = Registry("processor", __name__)


def process(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
    """Pass each row through the processors that its request turns on; the given tensor stays as it is."""
    for _, processor in sorted(((name, PROCESSORS[name]) for name in PROCESSORS), key=lambda item: item[1].order):
        active = [at for at, place in enumerate(places) if processor.wanted(place)]
        if len(active) == len(places):
            logits_NV = processor.apply(logits_NV, places)
        elif active:
            rows = torch.tensor(active, device=logits_NV.device)
            changed = processor.apply(logits_NV[rows], [places[at] for at in active])
            logits_NV = logits_NV.index_copy(0, rows, changed)
    return logits_NV
