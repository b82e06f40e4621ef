"""What routers did during a training forward: the losses that keep experts busy alike, and the figures about it.

Routers report only to a tally that is open around the forward, so that serving and scoring keep nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hanok.ops.route import load, z_loss

if TYPE_CHECKING:
    from hanok.nn.router.base import Choice, Router

_open: ContextVar[Tally | None] = ContextVar("tally", default=None)


@dataclass
class Tally:
    """One entry per router that ran: the router, its logits (B, T, E), and what it chose.

    Other parts add `terms` to the loss, and `notes`: named figures, of which the mean over parts is shown. `again` says
    that what runs has run before (activation checkpointing), and is not to be counted once more.
    """

    entries: list[tuple[Router, Tensor, Choice]] = field(default_factory=list)
    terms: list[Tensor] = field(default_factory=list)
    again: bool = False
    notes: list[tuple[str, Tensor]] = field(default_factory=list)

    def loss(self) -> Tensor | None:
        """Return the sum over layers of the weighted balance and z losses, and other terms; None if there are none.

        Means go over all tokens of the forward, padding too. A balance loss is a product of means: accumulated over
        micro-batches it is the mean of theirs, not that of the big batch.
        """
        terms = [*self.terms]
        for router, logits, choice in self.entries:
            if router.config.balance:
                terms.append(router.config.balance * router.balance_loss(choice))
            if router.config.z:
                terms.append(router.config.z * z_loss(logits))
        return sum(terms[1:], terms[0]) if terms else None

    def loads(self) -> list[Tensor]:
        """Return how many tokens each expert of each layer computed (E,)."""
        return [_load(choice) for _, _, choice in self.entries]

    @torch.no_grad()
    def metrics(self) -> dict[str, Tensor]:
        """Return the mean losses, the extremes of load (1 is an even share) and the share of assignments dropped."""
        notes = {name: _mean([x for other, x in self.notes if other == name]) for name, _ in self.notes}
        if not self.entries:
            return notes
        shares = [loads / loads.to(torch.float32).mean().clamp_min(1e-9) for loads in self.loads()]
        dropped = [_dropped(choice) for _, _, choice in self.entries]
        return notes | {
            "moe/balance_loss": _mean([router.balance_loss(choice) for router, _, choice in self.entries]),
            "moe/z_loss": _mean([z_loss(logits) for _, logits, _ in self.entries]),
            "moe/dropped": _mean(dropped),
            "moe/load_max": torch.stack([share.max() for share in shares]).max(),
            "moe/load_min": torch.stack([share.min() for share in shares]).min(),
        }


@contextmanager
def tallying(*, again: bool = False) -> Iterator[Tally]:
    """Collect what routers do inside the `with` block (per thread and per task)."""
    tally = Tally(again=again)
    token = _open.set(tally)
    try:
        yield tally
    finally:
        _open.reset(token)


def current() -> Tally | None:
    """Return the tally that is open here."""
    return _open.get()


def _load(choice: Choice) -> Tensor:
    experts = choice.experts if choice.kept is None else choice.experts[choice.kept]
    return load(experts, choice.scores.shape[-1])


def _dropped(choice: Choice) -> Tensor:
    """Return the share of assignments that are not computed; without a token there are none."""
    lost = torch.zeros(1) if choice.kept is None or not choice.kept.numel() else ~choice.kept
    return lost.float().mean()


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack([value.float() for value in values]).mean()
