"""What one rendering of a foreign template may use, and how the operating system is told to hold it to that."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds of one rendering; None takes a bound away.

    `cpu` and `wall` are seconds; `memory` is bytes of address space, to which `per_byte` times the size of the messages
    is added; `output` is how many characters may be written beyond twice what the messages hold.
    """

    cpu: float | None = 1.0
    memory: int | None = 256 * MIB
    per_byte: int = 24  # a character takes up to four bytes, and is held as JSON, parsed, in blocks and joined
    output: int = MIB
    wall: float = 30.0  # the last resort where no processor time is had, or where only the clock can be watched

    def hold(self) -> list[str]:
        """Set what holds for the whole process, and return which bounds this system can hold: "cpu", "memory"."""
        held = ["cpu"] if self.cpu is None or sys.platform != "win32" else []
        if self._set("RLIMIT_AS", self.memory, hard=False):
            held.append("memory")
        for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC"):
            self._set(name, 0, hard=True)
        return held

    @contextlib.contextmanager
    def during(self, size: int) -> Iterator[None]:
        """Hold one rendering of messages of `size` bytes to its bounds; too much processor time ends the process."""
        if self.memory is not None:
            self._set("RLIMIT_AS", self.memory + self.per_byte * size, hard=False)
        if self.cpu is None or sys.platform == "win32":
            yield
            return
        # Not RLIMIT_CPU, which counts whole seconds of the process's life. The signal's own action is to end it, so
        # that a loop inside C code is ended, too.
        signal.setitimer(signal.ITIMER_PROF, self.cpu)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _set(self, name: str, value: int | None, *, hard: bool) -> bool:
        if sys.platform in ("win32", "darwin") and name == "RLIMIT_AS":
            return False  # absent there, or accepted and ignored
        try:
            import resource

            kind = getattr(resource, name)
            most = resource.getrlimit(kind)[1]
            wanted = most if value is None else value
            if most != resource.RLIM_INFINITY:
                wanted = min(wanted, most)
            resource.setrlimit(kind, (wanted, wanted if hard else most))
        except (ImportError, AttributeError, ValueError, OSError):
            return False
        return True
