"""A lock that a run and all its workers hold: a new run waits until the last process of a killed one is gone."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hanok.core.errors import HanokError

HELD: set[int] = set()  # the descriptors that workers inherit
PATIENCE = 30.0  # seconds


@contextmanager
def held(file: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a lock file while the block runs; descriptors that workers inherited hold it on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    break  # a file system without locks: equal results of two workers do each other no harm
                if time.monotonic() > end:
                    raise HanokError(f"{file}: workers of an earlier run are still there; end them first") from None
                time.sleep(0.02)
        HELD.add(stream.fileno())
        try:
            yield
        finally:
            HELD.discard(stream.fileno())
