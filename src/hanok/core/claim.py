"""The right of one job to write in a folder: a lock of the system, and an id that shows a later taking-over."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from hanok.core.durable import make_dirs
from hanok.core.errors import HanokError

TAKEN = (errno.EWOULDBLOCK, errno.EACCES)


class Claim:
    """Holds `.<name>.lock` beside a path from `take` to `release`; a second job is refused, and told by whom.

    The lock ends with the process, however that ends. Where a file system offers no locks the later job wins, and
    `check` tells the earlier one before it writes anything more.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.with_name(f".{path.name}.lock")
        self.run = secrets.token_hex(8)
        self._descriptor: int | None = None

    def take(self) -> Claim:
        """Become the one writer, or raise `HanokError`."""
        make_dirs(self.file.parent)
        while self._descriptor is None:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._lock(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:  # its holder removed the file while we waited at the door: what we hold locks nothing
                os.close(descriptor)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"run": self.run, "pid": os.getpid(), "host": socket.gethostname(), "since": now}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(record).encode(), 0)
        return self

    def check(self) -> None:
        """Raise `HanokError` if another job has taken the place over since."""
        holder = self._holder()
        if self._descriptor is not None and holder.get("run", self.run) != self.run:
            raise HanokError(f"{self.path} has been taken over by {_named(holder)}; this job writes nothing more there")

    def release(self) -> None:
        """Let others in; nothing happens where nothing is held."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            if self._holder().get("run") == self.run:
                os.unlink(self.file)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Claim:
        return self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in TAKEN:
                return  # no locks here (some network file systems): the id alone has to do
            raise HanokError(
                f"{self.path} is being written by another process ({_named(self._holder())}); "
                "wait for it or choose another folder"
            ) from None

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.file))
        except FileNotFoundError:
            return False

    def _holder(self) -> dict[str, Any]:
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    if "pid" not in holder:
        return "which has not said its name"
    return f"pid {holder['pid']} on {holder.get('host')} since {holder.get('since')}"
