"""Kernels of our own in C++ for what torch is slow at: a few rows times a weight, and one token's attention.

Each has a reference in torch beside it, which is used wherever the library is not there: without a compiler, before it
is built, with HANOK_NATIVE=0, on a device that is no CPU. Why it is not there, `status()` tells.

A process uses them once it has asked to (`prepare`), as programs that answer people do. Stages do not: a run that is
resumed must find the kernels that it began with, and these appear when a compiler is done.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hanok.ops.native import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 3

_P, _I64, _INT, _F32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "hanok_product": (_P, _P, _P, _I64, _I64, _INT, _INT, _P, _I64, _P, _INT),
    "hanok_attend": (_P, _P, _INT),
    "hanok_rms_norm": (_P, _P, _F32, _F32, _I64, _I64, _P, _INT),
    "hanok_rotate": (_P, _P, _P, _P, _I64, _P, _I64, _I64, _I64, _I64, _I64, _INT, _P, _P, _INT),
    "hanok_swish_gate": (_P, _P, _I64, _P, _INT),
    "hanok_add": (_P, _P, _I64, _P, _INT),
    "hanok_largest": (_P, _I64, _I64, _P, _P, _INT),
    "hanok_lookup": (_P, _P, _I64, _I64, _P),
    "hanok_replay": (_P, _I64),
}


class _State:
    """What this process knows of the library: loaded, looked for, and what `exact` numerics have settled on."""

    loaded: ctypes.CDLL | None = None
    wanted = looked = False
    settled: ctypes.CDLL | None = None
    is_settled = False
    trouble = ""
    lock = threading.Lock()


def kernels() -> ctypes.CDLL | None:
    """Return the library if it is there and this process has asked for it, without ever waiting for it."""
    if not _State.wanted:
        return None
    if _State.loaded is None and not _State.looked:
        _look()
    return _State.loaded


def exact_kernels() -> ctypes.CDLL | None:
    """Return the library or None, whichever the first to ask got: exact numerics cannot change while a process runs."""
    if not _State.is_settled:
        _State.settled, _State.is_settled = kernels(), True
    return _State.settled


def prepare(*, wait: bool = False) -> bool:
    """See to it that the library is built, in the background unless `wait`; return whether it is there now."""
    if build.switched_off():
        return False
    _State.wanted = True
    if kernels() is not None:
        return True
    if wait:
        build.build()
        _State.looked = False
        return kernels() is not None
    process = build.start()
    if process is not None:
        threading.Thread(target=_arrive, args=(process,), name="hanok-native", daemon=True).start()
    return False


def status() -> str:
    """Say whether the kernels are used here, and if not, why."""
    if build.switched_off():
        return "off (HANOK_NATIVE=0)"
    _look()
    found = _State.loaded
    if found is not None:
        return f"ready ({found.hanok_vectors().decode()})"
    if build.compiler() is None:
        return f"not used: no C++ compiler found ({', '.join(build.COMPILERS)})"
    if _State.trouble:
        return f"not used: {_State.trouble}"
    said = build.failure()
    if said:
        return f"not used: the build failed: {said.strip().splitlines()[0]}"
    return "not built yet: the first `hanok run`, `chat` or `serve` builds them in the background"


@contextmanager
def used(library: ctypes.CDLL | None) -> Iterator[None]:
    """Compute by this library, or by torch alone (None), in this block and the whole process: for comparisons."""
    names = ("wanted", "loaded", "looked", "settled", "is_settled")
    kept = [getattr(_State, name) for name in names]
    for name, value in zip(names, (True, library, True, library, True), strict=True):
        setattr(_State, name, value)
    try:
        yield
    finally:
        for name, value in zip(names, kept, strict=True):
            setattr(_State, name, value)


def _arrive(process: Any) -> None:
    process.wait()
    _State.looked = False
    kernels()


def _look() -> None:
    with _State.lock:
        if _State.looked:
            return
        path = None if build.switched_off() else build.library()
        if path is not None and path.exists():
            try:
                from hanok.ops.native.check import checked

                _State.loaded = checked(load(path))
            except (OSError, AttributeError) as error:
                _State.trouble = str(error)
        _State.looked = True


def load(path: Path) -> ctypes.CDLL:
    """Return a library with the types of its functions set."""
    found = ctypes.CDLL(str(path))
    found.hanok_vectors.restype = ctypes.c_char_p
    if found.hanok_version() != VERSION:
        raise OSError(f"{path} is of another version")
    for name, arguments in SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    found.hanok_rotate.restype = found.hanok_replay.restype = ctypes.c_int64
    return found
