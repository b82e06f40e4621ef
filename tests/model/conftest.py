"""A watch over this process: the most memory it held, and what it opened, imported or ran meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FORBIDDEN = ("exec", "import", "os.", "subprocess.", "socket.", "pickle.", "ctypes.", "marshal.", "shutil.")
ALLOWED = ("os.listdir", "os.scandir", "os.fspath")


class Watch:
    """An audit hook, which cannot be removed and sleeps outside `events`, and the system's own count of memory."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if (event.startswith(FORBIDDEN) and event not in ALLOWED) or event == "open":
            self.seen.append(f"{event} {arguments!r:.200}")

    @contextmanager
    def events(self) -> Iterator[list[str]]:
        """Give the list to which everything opened, imported or run inside is appended."""
        self.seen = found = []
        try:
            yield found
        finally:
            self.seen = None

    def peak(self, reset: bool = False) -> int:
        """Return the most memory that this process held since the reset, in bytes; at the reset, what it holds."""
        if not Path("/proc/self/clear_refs").exists():
            pytest.skip("peak memory is measured through Linux's /proc")
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        word = "VmRSS:" if reset else "VmHWM:"
        return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Return the one watch of this process."""
    return Watch()
