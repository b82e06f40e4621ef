"""The units of a run: segments of the sources, filled to about the same size; they depend on the input alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hanok.core.artifact import atomic_write
from hanok.text.data.pipeline.source import SOURCES, Segment, source_of

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """The segments of every unit, in the order of the documents."""

    units: Sequence[Sequence[Segment]]

    @classmethod
    def make(cls, sources: Mapping[str, str], *, size: int) -> Plan:
        """Cut sources, {path: name}, into units of about `size` bytes."""
        segments = (
            segment
            for path, name in sources.items()
            for segment in SOURCES[source_of(path)]().cut(path, name, size=size)
        )
        return cls(list(_fill(segments, size)))

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read a plan that was saved."""
        data = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return cls([[Segment(**segment) for segment in unit] for unit in data])

    def save(self, folder: Path) -> None:
        """Write the plan."""
        atomic_write(folder / PLAN, json.dumps([[asdict(segment) for segment in unit] for unit in self.units]))


def _fill(segments: Iterable[Segment], size: int) -> Iterator[list[Segment]]:
    unit: list[Segment] = []
    filled = 0
    for segment in segments:
        unit.append(segment)
        filled += segment.size
        if filled >= size:
            yield unit
            unit, filled = [], 0
    if unit:
        yield unit
