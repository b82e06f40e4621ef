"""Which documents were in a batch, and which batches saw a document: computed from the order, not from a log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.origins import Origins
from hanok.text.data.rows import Documents
from hanok.text.data.stream import RowStream


@dataclass(frozen=True)
class Sighting:
    """One stretch of a document in a batch: batches count from 1 as steps do, rows and tokens from 0."""

    batch: int
    row: int
    source: str
    document: int
    id: str
    start: int
    stop: int
    origin: dict[str, Any]


class History:
    """The batches of a run whose steps take `per_step` rows (of all ranks and micro-batches together) each."""

    def __init__(self, stream: RowStream, per_step: int) -> None:
        self.stream, self.per_step = stream, per_step
        self._origins: dict[str, Origins] = {}

    def batch(self, number: int) -> list[Sighting]:
        """Return every stretch of a document in the batch of a step, row by row."""
        found = []
        for place, row in enumerate(self._rows(number)):
            source, inner = self.stream.locate(row)
            part = self.stream.parts[source]
            found += [(place, part.name, part.rows.documents, span) for span in part.rows.spans(inner)]
        records: dict[tuple[str, int], dict[str, Any]] = {}
        for shards in {str(item[2].shards.path): item[2] for item in found}.values():
            path = str(shards.shards.path)
            numbers = [span.document for _, _, documents, span in found if str(documents.shards.path) == path]
            records |= {(path, n): record for n, record in self._origins_of(shards).of(numbers).items()}
        sightings = []
        for place, name, documents, span in found:
            origin = records[str(documents.shards.path), span.document]
            sightings.append(Sighting(number, place, name, span.document, origin["id"], span.start, span.stop, origin))
        return sightings

    def rebuild(self, number: int) -> Batch:
        """Return the batch of a step bit for bit, all ranks' rows and all micro-batches one below the other."""
        return self.stream.rebuild(self._rows(number))

    def document(self, name: str, steps: int) -> list[Sighting]:
        """Return where a document stood in the first `steps` batches; `name` is its id, or SOURCE:NUMBER."""
        sightings = []
        for source, number, record in self._find(name):
            part = self.stream.parts[source]
            for row in part.rows.rows_of(number):
                spans = [span for span in part.rows.spans(row) if span.document == number]
                for at in self.stream.seen_at(source, row, steps * self.per_step):
                    batch, place = at // self.per_step + 1, at % self.per_step
                    sightings += [
                        Sighting(batch, place, part.name, number, record["id"], span.start, span.stop, record)
                        for span in spans
                    ]
        return sorted(sightings, key=lambda one: (one.batch, one.row, one.start))

    def _find(self, name: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield the source, number and origin of each document that a name means."""
        found = False
        known: dict[str, int | None] = {}
        for source, part in enumerate(self.stream.parts):
            documents = part.rows.documents
            path = str(documents.shards.path)
            if path not in known:
                known[path] = self._origins_of(documents).find(name)
            number = known[path]
            prefix, colon, last = name.rpartition(":")
            if number is None and colon and last.isdecimal() and prefix in (part.name, part.name.partition("#")[0]):
                number = int(last)
            if number is None or not 0 <= number < int(documents.shards.index["documents"]):
                continue
            found = True  # though it may be in no row: an empty document, or one of another domain or bucket
            if documents.place_of(number) is not None:
                yield source, number, self._origins_of(documents).of([number])[number]
        if not found:
            raise UsageError(
                f"no document {name!r} in {', '.join(sorted(known))} (give its id, or SOURCE:NUMBER, counted from 0)"
            )

    def _rows(self, number: int) -> range:
        if number < 1:
            raise UsageError(f"batches count from 1, as steps do: {number}")
        if self.stream.total is not None and number * self.per_step > self.stream.total:
            raise UsageError(f"batch {number}: the run has {self.stream.total // self.per_step} of them")
        return range((number - 1) * self.per_step, number * self.per_step)

    def _origins_of(self, documents: Documents) -> Origins:
        path = str(documents.shards.path)
        if path not in self._origins:
            self._origins[path] = Origins(path, int(documents.shards.index["documents"]))
        return self._origins[path]
