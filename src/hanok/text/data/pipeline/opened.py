"""Opening files of text: plain or compressed, as bytes, with the encoding that the whole of them has."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from hanok.core.errors import UsageError, require
from hanok.text.data.files import read_lines

BLOCK = 1 << 20
MARK = b"\xef\xbb\xbf"


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, unpacking `.gz` and `.zst`; damage is a `UsageError` that names the file."""
    try:
        with _open(path) as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read to its end: {error}") from None


def is_packed(path: str) -> bool:
    """Say whether a file is compressed, so that nothing but its beginning can be reached at once."""
    return path.endswith((".gz", ".zst"))


def _open(path: str) -> BinaryIO:
    if path.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.endswith(".zst"):
        arrow = require("pyarrow", extra="data")
        unpacked = arrow.CompressedInputStream(arrow.OSFile(path), "zstd")
        return io.BufferedReader(unpacked, BLOCK)
    return open(path, "rb")


def encoding_of(path: str) -> str:
    """Return "utf-8" or, for a file that is none and holds Korean, "cp949"; a packed file has to be UTF-8."""
    if is_packed(path):
        return "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as stream:
        head = stream.read(BLOCK)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"{path} is UTF-16; save it as UTF-8")
        try:
            while head:
                decoder.decode(head)
                head = stream.read(BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp949" if _is_korean(path) else "utf-8"
    return "utf-8"


def _is_korean(path: str) -> bool:
    try:
        for _ in read_lines(Path(path)):
            pass
    except UsageError:
        return False  # the rows that are no text will say so themselves
    return True
