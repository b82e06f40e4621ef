"""JSON lines: one document per line, cut at line ends, so that several workers read one file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from hanok.text.data.pipeline.opened import BLOCK, MARK, encoding_of, is_packed, opened
from hanok.text.data.pipeline.source import SOURCES, Row, Segment


@SOURCES.register("jsonl")
class Jsonl:
    """JSON lines (`.jsonl`, also `.gz` and `.zst`): one object per line; a packed file is one segment."""

    def cut(self, path: str, name: str, *, size: int) -> Iterator[Segment]:
        """Yield ranges of bytes that end where a line ends."""
        total = os.path.getsize(path)
        if is_packed(path):
            yield Segment("jsonl", path, name, total)
            return
        encoding = encoding_of(path)
        start, first = 0, 1
        for stop, next_first in _cuts(path, size):
            yield Segment("jsonl", path, name, stop - start, start, stop, first, encoding)
            start, first = stop, next_first
        if start < total:
            yield Segment("jsonl", path, name, total - start, start, total, first, encoding)

    def read(self, segment: Segment) -> Iterator[Row]:
        """Yield the objects, and the lines that hold none."""
        with opened(segment.path) as stream:
            if segment.start:
                stream.seek(segment.start)
            place = segment.start
            for number, raw in enumerate(stream, segment.first):
                place += len(raw)
                if number == 1:
                    raw = raw.removeprefix(MARK)
                if raw.strip():
                    yield _row(number, raw, segment.encoding)
                if segment.stop and place >= segment.stop:
                    return


def _cuts(path: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield (byte after a line end, number of the line that begins there) about every `size` bytes."""
    place, line, wanted = 0, 1, size
    with opened(path) as stream:
        while block := stream.read(BLOCK):
            at = 0
            while place + len(block) >= wanted and (end := block.find(b"\n", max(wanted - 1 - place, at))) >= 0:
                line += block.count(b"\n", at, end + 1)
                at = end + 1
                yield place + at, line
                wanted = place + at + size
            line += block.count(b"\n", at)
            place += len(block)


def _row(number: int, raw: bytes, encoding: str) -> Row:
    try:
        value = json.loads(raw.decode(encoding))
    except UnicodeDecodeError as error:
        detail = f"byte {error.start + 1} is neither UTF-8 nor CP949; save the file as UTF-8"
        return Row(number, None, len(raw), "not UTF-8", detail)
    except (ValueError, RecursionError) as error:
        return Row(number, None, len(raw), "not JSON", f"not valid JSON: {error}")
    if not isinstance(value, dict):
        return Row(number, None, len(raw), "no object", f"a row must be a JSON object, not {type(value).__name__}")
    return Row(number, value)
