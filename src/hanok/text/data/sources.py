"""A training stream from prepared folders: several of them by weight, their domains, a curriculum, packed or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from hanok.core.artifact import file_sha256
from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.text.data.origins import Origins
from hanok.text.data.pack import Packed
from hanok.text.data.rows import Documents, Windows
from hanok.text.data.schedule import Change, Curriculum, Point, admissions, changes, to_knots, weights_at
from hanok.text.data.score import SCORES
from hanok.text.data.score.stored import Stored
from hanok.text.data.shard import INDEX, Shards
from hanok.text.data.shares import Shares
from hanok.text.data.stream import ONLY, Part, Plan, RowStream


class MixtureConfig(Config):
    """Which prepared folders are read, and how much of each at which point of the run.

    `sources` are folders by name (none: the data that the run is given, named "data"); `domains` takes each of them
    apart by the source that its documents came from. `weights` are shares of the tokens that are learned; sources
    without one divide the rest by size. `schedule` changes them on the way, `curriculum` orders each from easy to hard.
    """

    sources: dict[str, str] = {}
    domains: bool = False
    weights: dict[str, float] = {}
    schedule: tuple[Change, ...] = ()
    curriculum: Curriculum | None = None
    digests: dict[str, str] = Field({}, description="what the sources hold; `pin` fills it in")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ends = [(change.start, change.start + change.ramp) for change in self.schedule]
        if any(b[0] < a[1] for a, b in pairwise(ends)):
            raise ValueError("a change of weights begins before the one ahead of it has ended")
        if any("/" in name for name in self.sources):
            raise ValueError("the name of a source must not hold '/', which parts it from its domains")
        return self

    def pin(self) -> Self:
        """Return the configuration with what identifies its sources, so that changed data makes a new run."""
        found = {name: file_sha256(training_shards(Path(path)) / INDEX) for name, path in self.sources.items()}
        return self.model_copy(update={"digests": found})


@dataclass(frozen=True)
class Layout:
    """The shape of the rows and the seed of their order."""

    length: int
    batch: int
    seed: int = 0
    packed: bool = False


@dataclass(frozen=True)
class _Chosen:
    """A source or a domain of one: its documents in buckets, one bucket unless there is a curriculum."""

    name: str
    buckets: list[Part]
    targets: list[int]


def training_shards(path: Path) -> Path:
    """Return the training shards in a prepared folder, or the folder itself where it holds shards."""
    for folder in (path / "train", path):
        if (folder / INDEX).is_file():
            return folder
    raise UsageError(f"{path} holds no token shards (train/{INDEX} or {INDEX}): prepare the data first")


def mixed(config: MixtureConfig, files: Sequence[str]) -> tuple[MixtureConfig, list[str]]:
    """Return a mixture of the prepared folders among the data given, and what the run itself is given.

    Several prepared folders become sources by their names; the first brings the tokenizer and the validation split.
    """
    prepared = [file for file in files if (Path(file) / "train" / INDEX).is_file()]
    if len(prepared) > 1:
        names = {Path(file).resolve().name: file for file in files}
        if config.sources or len(prepared) < len(files) or len(names) < len(files):
            raise UsageError(
                "several prepared folders become the sources of a mixture: give nothing but them and no two of one "
                "name, or name them yourself (mixture.sources.NAME=FOLDER)"
            )
        config = config.model_copy(update={"sources": names})
    if not config.sources:
        return config, list(files)
    if files and not prepared:
        raise UsageError("mixture.sources are prepared folders already: leave --data out, or give it one of them")
    return config.pin(), prepared[:1] or [next(iter(config.sources.values()))]


def open_stream(config: MixtureConfig, tokens: Path, layout: Layout, *, verify: bool = True) -> RowStream:
    """Return the stream of a run; `tokens` is the prepared folder that the run was given."""
    folders = {name: Path(path) for name, path in config.sources.items()} or {ONLY: tokens}
    _check_tokenizers(tokens, folders)
    chosen: list[_Chosen] = []
    for name, folder in folders.items():
        shards = Shards(training_shards(folder), verify=verify)
        if config.digests.get(name, "") not in ("", file_sha256(shards.path / INDEX)):
            raise UsageError(f"{shards.path} has changed since this run was configured; run it without 'digests'")
        for domain, numbers in _domains(shards, name, len(folders) > 1) if config.domains else [(name, None)]:
            chosen.append(_buckets(domain, shards, numbers, config.curriculum, layout))
    parts = [part for one in chosen for part in one.buckets]
    return RowStream(parts, _plan(config, chosen, layout.length), batch=layout.batch, seed=layout.seed)


def _plan(config: MixtureConfig, chosen: Sequence[_Chosen], length: int) -> Plan:
    """Return the shares of each bucket of each source as a function of the length of the run in rows."""
    base = {one.name: float(sum(one.targets)) for one in chosen}
    over = changes(base, config.weights, config.schedule)
    pace = config.curriculum.pace if config.curriculum else 1.0
    inner: list[list[Point]] = [
        admissions(one.targets, pace) if len(one.buckets) > 1 else [(0.0, [1.0])] for one in chosen
    ]
    # A row of a source that packs less tightly has fewer targets, so that more of them make up its share.
    filled = [part.rows.targets / len(part.rows) / length for one in chosen for part in one.buckets]
    points: list[Point] = []
    for at in sorted({at for some in (over, *inner) for at, _ in some}):
        for after in (False, True):
            outer = weights_at(over, at, after=after)
            weights = []
            for share, some in zip(outer, inner, strict=True):
                within = weights_at(some, at, after=after)
                weights += [share * weight / sum(within) for weight in within]
            point = at, [weight / fill for weight, fill in zip(weights, filled, strict=True)]
            if not points or point != points[-1]:
                points.append(point)
    return lambda rows: Shares(to_knots(points, rows))


def _buckets(
    name: str, shards: Shards, numbers: npt.NDArray[np.int64] | None, curriculum: Curriculum | None, layout: Layout
) -> _Chosen:
    """Return the documents of a source as rows, in buckets by their score."""
    groups = [numbers]
    if curriculum is not None:
        groups = [*_by_score(name, shards, numbers, curriculum)]
    parts = []
    for place, group in enumerate(groups):
        documents = Documents(shards, group)
        rows = Packed(documents, layout.length) if layout.packed else Windows(documents, layout.length)
        parts.append(Part(name if len(groups) == 1 else f"{name}#{place + 1}", rows))
    return _Chosen(name, parts, [part.rows.targets for part in parts])


def _by_score(
    name: str, shards: Shards, numbers: npt.NDArray[np.int64] | None, curriculum: Curriculum
) -> list[npt.NDArray[np.int64]]:
    scores = SCORES[curriculum.by.kind](curriculum.by)(shards)
    if not np.isfinite(scores).all():
        raise UsageError(
            f"{shards.path}: document {int(np.argmin(np.isfinite(scores)))} has a score that is not finite"
        )
    ends = Documents(shards).ends()
    sizes = np.diff(ends, prepend=0)
    everything = np.arange(len(ends)) if numbers is None else numbers
    kept = everything[sizes[everything] > 0]
    order = kept[np.argsort(scores[kept] * (-1 if curriculum.descending else 1), kind="stable")]
    until = np.cumsum(sizes[order])
    # The bucket that the middle of a document falls into, so that each holds about as many tokens.
    bucket = ((until - sizes[order] / 2) * curriculum.buckets / max(int(until[-1]), 1)).astype(np.int64)
    groups = [np.sort(order[bucket == i]) for i in range(curriculum.buckets)]
    if any(len(group) == 0 for group in groups):
        raise UsageError(f"{name!r} has too few documents for a curriculum of {curriculum.buckets} buckets")
    return groups


def _domains(shards: Shards, name: str, several: bool) -> list[tuple[str, npt.NDArray[np.int64]]]:
    origins = Origins(shards.path, int(shards.index["documents"]))
    if not origins.present:
        raise UsageError(f"{shards.path} has no {origins.file.name}, so that its domains are not known")
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(origins.records()):
        groups.setdefault(str(record.get("source", "")), []).append(number)
    return [
        (f"{name}/{domain}" if several else domain, np.asarray(numbers, dtype=np.int64))
        for domain, numbers in sorted(groups.items())
    ]


def _check_tokenizers(tokens: Path, folders: Mapping[str, Path]) -> None:
    own = tokens / "tokenizer.json"
    for name, folder in folders.items():
        other = folder / "tokenizer.json"
        if own.is_file() and other.is_file() and file_sha256(own) != file_sha256(other):
            raise UsageError(f"source {name!r} ({folder}) was made with another tokenizer than {tokens}")


def moved(config: MixtureConfig, move: Callable[[str], str]) -> MixtureConfig:
    """Return the configuration with every path in it changed."""
    sources = {name: move(path) for name, path in config.sources.items()}
    curriculum = config.curriculum
    if curriculum is not None and isinstance(curriculum.by, Stored.Config):
        by = curriculum.by.model_copy(update={"path": move(curriculum.by.path)})
        curriculum = curriculum.model_copy(update={"by": by})
    return config.model_copy(update={"sources": sources, "curriculum": curriculum})


def relative(path: str | Path, start: Path) -> str:
    """Return a path as seen from a folder, so that both can be moved together."""
    return os.path.relpath(Path(path).resolve(), start.resolve())
