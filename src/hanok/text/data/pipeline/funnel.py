"""The funnel: how many documents and bytes go into each step and come out, and what became of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hanok.core.errors import HanokError

READ = "read"  # the first step


@dataclass
class Count:
    """Documents and bytes (of UTF-8) through one step; `edited` is by how many bytes kept documents grew."""

    documents: int = 0
    bytes: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)  # reason: [documents, bytes]
    edited: int = 0
    changes: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> tuple[int, int]:
        """Return the documents and the bytes that were dropped."""
        return sum(n for n, _ in self.dropped.values()), sum(size for _, size in self.dropped.values())

    @property
    def left(self) -> tuple[int, int]:
        """Return the documents and the bytes that come out."""
        documents, size = self.lost
        return self.documents - documents, self.bytes - size + self.edited


class Funnel:
    """Counts of all steps in their order; the counts of units add up to those of the run."""

    def __init__(self, steps: Iterable[str]) -> None:
        self.counts: dict[str, Count] = {step: Count() for step in (READ, *steps)}

    def enter(self, step: str, size: int) -> None:
        """Count a document that reaches a step."""
        count = self.counts[step]
        count.documents += 1
        count.bytes += size

    def drop(self, step: str, reason: str, size: int) -> None:
        """Count a document that ends at a step."""
        dropped = self.counts[step].dropped.setdefault(reason, [0, 0])
        dropped[0] += 1
        dropped[1] += size

    def edit(self, step: str, grown: int, changes: Mapping[str, int]) -> None:
        """Count what a step changed in a document that it keeps."""
        count = self.counts[step]
        count.edited += grown
        for name, number in changes.items():
            count.changes[name] = count.changes.get(name, 0) + number

    def add(self, data: Mapping[str, Any]) -> None:
        """Add the counts of a unit, as `to_dict` wrote them."""
        for step, other in data.items():
            count = self.counts[step]
            count.documents += other["documents"]
            count.bytes += other["bytes"]
            for reason, (documents, size) in other["dropped"].items():
                dropped = count.dropped.setdefault(reason, [0, 0])
                dropped[0] += documents
                dropped[1] += size
            self.edit(step, other["edited"], other["changes"])

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-able data, reasons and changes by name."""
        return {
            step: {
                "documents": count.documents,
                "bytes": count.bytes,
                "dropped": dict(sorted(count.dropped.items())),
                "edited": count.edited,
                "changes": dict(sorted(count.changes.items())),
            }
            for step, count in self.counts.items()
        }

    def check(self) -> None:
        """Refuse counts in which a document or a byte appears or vanishes between two steps."""
        counts = list(self.counts.items())
        for (step, count), (following, after) in pairwise(counts):
            if count.left != (after.documents, after.bytes):
                raise HanokError(
                    f"the funnel does not add up: {count.left} documents and bytes leave {step!r}, "
                    f"{(after.documents, after.bytes)} reach {following!r}"
                )

    @property
    def left(self) -> tuple[int, int]:
        """Return the documents and the bytes that the last step keeps."""
        return list(self.counts.values())[-1].left


def rows(data: Mapping[str, Any]) -> Iterator[tuple[str, int, int, int, int, float]]:
    """Yield (step, documents in, dropped, kept, bytes kept, share of all documents kept) of `Funnel.to_dict`."""
    funnel = Funnel([step for step in data if step != READ])
    funnel.add(data)
    total = max(funnel.counts[READ].documents, 1)
    for step, count in funnel.counts.items():
        documents, size = count.left
        yield step, count.documents, count.lost[0], documents, size, documents / total


def reasons(data: Mapping[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """Yield (step, reason, documents, bytes) of all that was dropped, the most frequent reason of a step first."""
    for step, count in data.items():
        for reason, (documents, size) in sorted(count["dropped"].items(), key=lambda item: -item[1][0]):
            yield step, reason, documents, size
