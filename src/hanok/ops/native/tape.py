"""A forward recorded as a flat list of kernel calls, and made again by one call: what a CUDA graph is to a GPU.

While a forward is recorded every kernel call is written down with its addresses, and every tensor that torch sees is
kept, so that these stay good; what a layer makes for itself alone (a table of angles) must stay where it is.
Operations of torch's own are seen too (`TorchDispatchMode`): views and fresh memory need nothing, a sum or a look-up
has a kernel, and any other makes the forward one that cannot be recorded.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hanok.ops import native

CALLS = tuple(
    f"hanok_{name}" for name in ("product", "attend", "rms_norm", "rotate", "swish_gate", "add", "lookup", "largest")
)  # in the order of the numbers in source/kernels.cpp
aten = torch.ops.aten
FRESH = {aten.empty.memory_format, aten.empty_like.default}
FREE = FRESH | {
    aten.to.dtype,
    aten.view.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.select.int,
    aten.slice.Tensor,
}
FREE |= {aten.detach.default, aten.alias.default, aten.reshape.default, aten._reshape_alias.default}
FREE |= {aten.squeeze.dim, aten.flatten.using_ints, aten.unflatten.int, aten.expand.default, aten.contiguous.default}


Result = TypeVar("Result")

ONE_AT_A_TIME = threading.Lock()  # the library is replaced for the whole process, and must be put back in order


class NotRecordableError(Exception):
    """The forward does something that there is no kernel for."""


class Recorded(ctypes.Structure):
    """One call (source/kernels.cpp)."""

    _fields_ = [("call", ctypes.c_int64), ("given", ctypes.c_int64 * 16), ("fractions", ctypes.c_double * 2)]


class Tape(Generic[Result]):
    """Recorded calls, all that they point to, and the forward's result."""

    def __init__(self, library: Any) -> None:
        self.library, self.held, self._written = library, [], []  # type: tuple[Any, list[Any], list[Recorded]]
        self.result: Result | None = None
        self.bytes = 0  # of the memory that its calls write to
        self._calls: Any = None

    def record(self, forward: Callable[[], Result]) -> Result:
        """Compute a forward and write its calls down; `NotRecordableError` where it is not made of kernels alone."""
        with ONE_AT_A_TIME, native.used(_Listening(self)), _Watching(self):  # type: ignore[arg-type]
            self.result = forward()
        self._calls = (Recorded * len(self._written))(*self._written)
        return self.result

    def replay(self) -> Result | None:
        """Make the calls again on what their inputs hold now; None where they do not fit. The next one overwrites."""
        failed = self.library.hanok_replay(ctypes.addressof(self._calls), len(self._calls))
        return None if failed else self.result

    def write(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Write a call down."""
        line = Recorded(call=CALLS.index(name))
        whole = fractions = 0
        for argument in arguments:
            if isinstance(argument, float):
                line.fractions[fractions] = argument
                fractions += 1
                continue
            pointed = getattr(argument, "_obj", None)  # of ctypes.byref
            if pointed is not None:
                self.held.append(pointed)
                argument = ctypes.addressof(pointed)
            line.given[whole] = int(argument or 0)
            whole += 1
        self._written.append(line)


class _Listening:
    """The library, writing down what it is asked for."""

    def __init__(self, tape: Tape[Any]) -> None:
        self._tape, self._thread = tape, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._tape.library, name)

        def call(*arguments: Any) -> Any:
            if threading.get_ident() == self._thread:  # other engines compute meanwhile
                self._tape.write(name, arguments)
            return function(*arguments)

        return call if name in CALLS else function


class _Watching(TorchDispatchMode):
    """Torch's operations while a forward is recorded."""

    def __init__(self, tape: Tape[Any]) -> None:
        super().__init__()
        self.tape = tape

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and shielding it from the compiler would import the compiler: a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in FREE and func not in (aten.add.Tensor, aten.embedding.default):
            raise NotRecordableError(str(func))  # before it is done: a state must not be changed twice
        out = func(*args, **kwargs)
        self.tape.held.append((args, out))
        if func in FRESH:
            self.tape.bytes += out.untyped_storage().nbytes()
            return out
        if func in FREE:
            if out.untyped_storage().data_ptr() != args[0].untyped_storage().data_ptr():
                raise NotRecordableError(f"{func} made a copy")
            return out
        if func is aten.add.Tensor and not kwargs and _plain(*args, out) and args[0].shape == args[1].shape:
            self.tape.write("hanok_add", (*_at(*args), out.numel(), out.data_ptr(), torch.get_num_threads()))
        elif func is aten.embedding.default and not kwargs and len(args) == 2 and _plain(args[0], out):
            table, at = args
            self.tape.write("hanok_lookup", (*_at(table, at), at.numel(), table.shape[1], out.data_ptr()))
        else:
            raise NotRecordableError(str(func))
        return out


def _plain(*tensors: Any) -> bool:
    return all(isinstance(x, Tensor) and x.dtype == torch.float32 and x.is_contiguous() for x in tensors)


def _at(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
