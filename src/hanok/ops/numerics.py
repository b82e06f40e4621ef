"""The numerics contract: `fast` (best kernels) or `exact` (a token's bits do not depend on its batch).

Floating-point addition is not associative, and library kernels choose their order of addition by the shape of the
whole batch. In `exact` mode every operation runs in tiles of one fixed shape, so that a token's log-prob is the same,
to the last bit, in a training forward, a chunked prefill, a decode step and whatever shares the batch with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, cast

import torch
from torch import Tensor

from hanok.core.errors import UsageError, suggest

Mode = Literal["fast", "exact"]
MODES = ("fast", "exact")

_mode: ContextVar[Mode] = ContextVar("numerics", default="fast")

LANES = 64  # no CPU vector loop, unrolled, takes more elements at a time


def current() -> Mode:
    """Return the numerics in force here; code that is compiled keeps the answer that it was compiled under.

    The compiler is told so where it is used (`train/compile.py`): saying it here would import it into every program.
    """
    return _mode.get()


def check_mode(mode: str) -> Mode:
    """Return the mode, or say which ones there are."""
    if mode not in MODES:
        raise UsageError(f"unknown numerics {mode!r}{suggest(mode, MODES)} (use 'fast' or 'exact')")
    return cast(Mode, mode)


@contextmanager
def numerics(mode: str) -> Iterator[None]:
    """Compute with the given numerics inside the `with` block (per thread and per task, never process-wide)."""
    token = _mode.set(check_mode(mode))
    try:
        yield
    finally:
        _mode.reset(token)


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a transcendental function so that, in exact mode, an element's bits do not depend on its neighbours.

    CPU kernels treat the last few elements of a thread's share with a scalar routine whose last bit can differ from
    the vector one; padding to whole vectors for every thread keeps each element on the vector path.
    """
    if current() == "fast" or x.device.type != "cpu":
        return function(x)
    whole = LANES * torch.get_num_threads()
    flat = x.reshape(-1)
    padded = flat.new_zeros(-(-flat.numel() // whole) * whole)
    padded[: flat.numel()] = flat
    return function(padded)[: flat.numel()].view(x.shape)
