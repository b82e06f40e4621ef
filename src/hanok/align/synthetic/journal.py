"""The journal of a run: what the model said, and what each round came to, in a file that a kill cannot harm.

Replies cost money or hours and cannot be had again; all else is computed from them. So each reply is one line, written
by one append as soon as it is there, and the outcome of a round is one line too: rows are in the journal all at once or
not at all. A line that a kill or a power cut left torn has no right checksum; the file is cut before it, and what stood
there is asked again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

from hanok.align.synthetic.ask import Reply, Row
from hanok.core.durable import sync
from hanok.core.errors import UsageError

FLUSH = 1.0  # seconds of replies that a power cut may take (a kill takes none); rounds are flushed at once


class Journal:
    """Replies of the open round by key, and the rows and reasons of the closed ones."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rounds: list[Row] = []  # of each: {"rows": [...], "dropped": [[name, reason], ...]}
        self.cut = 0  # bytes of a torn end that were removed
        self._replies: dict[str, tuple[str, Reply]] = {}
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        sync(file.parent)
        self._read()
        self._flushed = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def reply(self, key: str, asked: str) -> Reply | None:
        """Return the reply under a key if it is there; `asked` is the hash of the question that it must belong to."""
        found = self._replies.get(key)
        if found is not None and found[0] != asked:
            raise UsageError(
                f"{self.file}: the reply {key} answers another question than is asked now: the program or its data has "
                "changed since; start over with --resume false"
            )
        return None if found is None else found[1]

    def add(self, key: str, asked: str, reply: Reply) -> None:
        """Keep a reply of the open round."""
        assert key not in self._replies, key
        self._append({"key": key, "asked": asked, "text": reply.text, "finished": reply.finished})
        self._replies[key] = asked, reply
        if time.monotonic() - self._flushed > FLUSH:
            self._flush()

    def close_round(self, rows: list[Row], dropped: list[tuple[str, str]]) -> None:
        """Keep the outcome of the open round, and open the next."""
        self._append({"round": len(self.rounds), "rows": rows, "dropped": dropped})
        self._flush()
        self.rounds.append({"rows": rows, "dropped": [list(pair) for pair in dropped]})
        self._replies.clear()

    def _append(self, record: Row) -> None:
        """Write one line with one call; a short write (a full disk) is taken back, so that the next one can follow."""
        line = seal(record)
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise
        if written != len(line):
            os.ftruncate(self._descriptor, before)
            raise OSError(f"{self.file}: only {written} of {len(line)} bytes could be written; is the disk full?")

    def _flush(self) -> None:
        os.fsync(self._descriptor)
        self._flushed = time.monotonic()

    def _read(self) -> None:
        good = 0
        with self.file.open("rb") as lines:
            for line in lines:
                record = unseal(line)
                if record is None or not self._take(record):
                    break
                good += len(line)
        self.cut = os.fstat(self._descriptor).st_size - good
        if self.cut:
            os.ftruncate(self._descriptor, good)
            os.fsync(self._descriptor)

    def _take(self, record: Row) -> bool:
        """Take in a record of the file; False if it cannot follow those before it."""
        if "key" in record:
            self._replies[record["key"]] = record["asked"], Reply(record["text"], record["finished"])
            return True
        if record.get("round") != len(self.rounds):
            return False
        self.rounds.append({"rows": record["rows"], "dropped": record["dropped"]})
        self._replies.clear()
        return True


def seal(record: Row) -> bytes:
    """Return a record as a line that ends with the checksum of what stands before it."""
    body = json.dumps(record, ensure_ascii=False)
    return f"{body}\t{zlib.crc32(body.encode()):08x}\n".encode()


def unseal(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, or None if the line is not whole."""
    body, tab, check = line.rpartition(b"\t")
    if not tab or not line.endswith(b"\n") or check.strip() != b"%08x" % zlib.crc32(body):
        return None
    record: dict[str, Any] = json.loads(body)
    return record
