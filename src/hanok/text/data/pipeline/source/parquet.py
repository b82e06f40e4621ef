"""Parquet files, cut at row groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hanok.core.errors import UsageError, require
from hanok.text.data.pipeline.source import SOURCES, Row, Segment

BATCH = 256  # rows in memory


@SOURCES.register("parquet")
class Parquet:
    """Parquet (extra `data`): one document per row; a segment is some row groups."""

    def cut(self, path: str, name: str, *, size: int) -> Iterator[Segment]:
        """Yield runs of row groups whose columns fill about `size` bytes."""
        metadata = _opened(path).metadata
        start, first, row, filled = 0, 1, 1, 0
        for group in range(metadata.num_row_groups):
            about = metadata.row_group(group)
            filled += about.total_byte_size
            row += about.num_rows
            if filled >= size or group == metadata.num_row_groups - 1:
                yield Segment("parquet", path, name, filled, start, group + 1, first)
                start, first, filled = group + 1, row, 0

    def read(self, segment: Segment) -> Iterator[Row]:
        """Yield the rows without their empty fields."""
        file = _opened(segment.path)
        groups = list(range(segment.start, segment.stop))
        number = segment.first
        arrow = require("pyarrow", extra="data")
        try:
            for batch in file.iter_batches(batch_size=BATCH, row_groups=groups, use_threads=False):
                for fields in batch.to_pylist():
                    yield Row(number, {key: value for key, value in fields.items() if value is not None})
                    number += 1
        except (arrow.ArrowException, OSError) as error:
            raise UsageError(f"{segment.path}, row {number}: not a readable parquet file: {error}") from None


def _opened(path: str) -> Any:
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    try:
        return parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise UsageError(f"{path} is not a readable parquet file: {error}") from None
