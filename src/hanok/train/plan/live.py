"""Every byte that tensors hold while something runs on tensors without memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What asks for values, which tensors without memory have not. Both are answered by what costs most, but for the places
# of weights that are not zero: how many targets count is known.
PLACES, VALUE = torch.ops.aten.nonzero.default, torch.ops.aten._local_scalar_dense.default


class Live(TorchDispatchMode):
    """Counts the storages that are alive, `now` and at the `peak`, each once however many tensors look at it.

    `length` answers whoever asks a tensor of integers for a number, such as the largest position; `targets` whoever
    asks where weights are not zero.
    """

    def __init__(self, length: int, targets: int | None = None) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._length, self._targets = length, targets
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is VALUE:
            return 1.0 if args[0].is_floating_point() else self._length - 1
        if func is PLACES:
            counted = args[0].is_floating_point() and self._targets is not None
            rows = min(args[0].numel(), self._targets) if counted else args[0].numel()
            out = torch.empty(rows, args[0].ndim, dtype=torch.int64, device=args[0].device)
        else:
            out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._hold(leaf.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._held:
            return
        self._held[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, key: int) -> None:
        self.now -= self._held.pop(key)


@contextmanager
def rehearsal(length: int, targets: int | None = None) -> Iterator[Live]:
    """Run what is inside on tensors that have shapes and no memory; give the count of what they would hold.

    `length` and `targets` (of a micro-batch) stand for values that the code asks for.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), Live(length, targets) as live:
        yield live
