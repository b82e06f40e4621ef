"""Text files: each file is one document."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hanok.text.data.pipeline.opened import MARK, encoding_of, opened
from hanok.text.data.pipeline.source import SOURCES, Row, Segment


@SOURCES.register("txt")
class Txt:
    """Plain text (`.txt`, also `.gz` and `.zst`): one document per file, UTF-8 or CP949."""

    def cut(self, path: str, name: str, *, size: int) -> Iterator[Segment]:
        """Yield the file as one segment."""
        total = os.path.getsize(path)
        yield Segment("txt", path, name, total, 0, total, encoding=encoding_of(path))

    def read(self, segment: Segment) -> Iterator[Row]:
        """Yield the one row."""
        with opened(segment.path) as stream:
            raw = stream.read().removeprefix(MARK)
        try:
            yield Row(segment.first, {"text": raw.decode(segment.encoding)})
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            detail = f"line {line} is neither UTF-8 nor CP949; save the file as UTF-8"
            yield Row(segment.first, None, len(raw), "not UTF-8", detail)
