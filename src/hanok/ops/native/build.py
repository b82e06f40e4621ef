"""Compile the kernels for this machine, once: into the user's cache folder, under a name made of what they are made of.

Nothing is built on import. A program that is about to generate asks for it (`prepare`), and the compiler then works in
the background, in a process of its own that outlives ours: the first answer is never late for it, and the next program
finds the library. The name holds a hash of source, flags, compiler and processor, and a file of that name appears by
renaming a finished one, so that processes that build at once, or die at it, leave whole libraries alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
MAIN = "kernels.cpp"
COMPILERS = ("c++", "g++", "clang++")
# No contraction: see vector.h. The rest is speed; -w, because a compiler's own headers may warn.
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-w")
STALE = 300.0  # seconds after which a build that left its mark has died


def switched_off() -> bool:
    """Say whether HANOK_NATIVE=0 asks for plain torch."""
    return os.environ.get("HANOK_NATIVE", "").lower() in ("0", "off", "no", "false")


@cache
def compiler() -> str | None:
    """Return the C++ compiler to use: $CXX, or the first one found."""
    if sys.platform not in ("linux", "darwin"):
        return None
    asked = os.environ.get("CXX", "")
    return next((path for name in (asked, *COMPILERS) if name and (path := shutil.which(name))), None)


@cache
def library() -> Path | None:
    """Return where the library of this source, compiler and processor lies, or will lie; None without a compiler."""
    found = compiler()
    if found is None:
        return None
    made_of = hashlib.sha256()
    for part in (found, *_flags(), platform.machine(), _capabilities()):
        made_of.update(part.encode() + b"\0")
    for file in sorted(SOURCE.iterdir()):
        made_of.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "hanok" / "native" / made_of.hexdigest()[:24] / "kernels.so"


def start() -> subprocess.Popen[bytes] | None:
    """Begin to build in the background, unless it is done, being done, impossible or known to fail."""
    target = library()
    if target is None or target.exists() or failure() is not None:
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mark = target.with_suffix(".busy")
        if mark.exists() and time.time() - mark.stat().st_mtime < STALE:
            return None
        mark.touch()
        return subprocess.Popen(
            ["/bin/sh", "-c", _script(target)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:  # no home, a full disk, no shell: torch's own products serve
        return None


def build() -> Path | None:
    """Build now if need be, and return the library; None where that cannot be done (`failure` says why)."""
    target = library()
    if target is None or target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["/bin/sh", "-c", _script(target)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return None
    return target if target.exists() else None


def failure() -> str | None:
    """Return what the compiler said the last time that it failed at this source."""
    target = library()
    if target is None or target.exists():
        return None
    try:
        return target.with_suffix(".failed").read_text(errors="replace")[:2000] or "the compiler failed without a word"
    except OSError:
        return None


def _script(target: Path) -> str:
    """Return the shell's part: compile to a name of its own, rename what is whole, keep the words of a failure."""
    found, new = compiler(), target.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
    words = [found or "", *_flags(), str(SOURCE / MAIN), "-o", str(new)]
    command = " ".join(map(_quoted, words))
    said, failed, busy = (_quoted(str(path)) for path in (f"{new}.txt", target.with_suffix(".failed"), _mark(target)))
    return (
        f"nice {command} 2> {said} && mv -f {_quoted(str(new))} {_quoted(str(target))} && rm -f {said} {failed} "
        f"|| mv -f {said} {failed}; rm -f {busy} {_quoted(str(new))}"
    )


def _mark(target: Path) -> Path:
    return target.with_suffix(".busy")


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _flags() -> tuple[str, ...]:
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    return (*FLAGS, native)


def _capabilities() -> str:
    """Return what the processor can do, as the system tells it: a home folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
        return "\n".join(dict.fromkeys(said))
    except OSError:
        return platform.processor() or platform.platform()
