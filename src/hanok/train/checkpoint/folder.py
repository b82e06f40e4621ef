"""The folder of a run's checkpoints: listing, reading under a lock, keeping the newest, sweeping up after kills."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hanok.core.artifact import ArtifactError
from hanok.core.claim import TAKEN, Claim
from hanok.core.durable import beside, remove_tree, sync
from hanok.core.errors import HanokError
from hanok.train.checkpoint.manifest import MANIFEST
from hanok.train.checkpoint.ranks import agree, place

PREFIX = "step-"


class NotRemoved(OSError):
    """A checkpoint was saved, but older ones could not be removed."""


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and step_of(path) is not None]
    return sorted(found, key=lambda path: step_of(path) or 0)


def step_of(path: Path) -> int | None:
    """Return the step that a checkpoint's name tells."""
    digits = path.name.removeprefix(PREFIX)
    return int(digits) if digits.isascii() and digits.isdecimal() else None


@contextmanager
def claimed(folder: Path) -> Iterator[Claim]:
    """Be the one job that writes in a folder, and sweep up what a killed one has left; a second job is refused.

    Every rank enters; the first one holds the claim.
    """
    claim, error = Claim(folder), None
    try:
        if place()[0] == 0:
            try:
                claim.take()
                sweep(folder)
            except (OSError, HanokError) as refused:
                error = refused
        agree(error, HanokError)
        yield claim
    finally:
        claim.release()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep a checkpoint from being removed while it is read, also by another process."""
    try:
        descriptor = os.open(path / MANIFEST, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(f"{path / MANIFEST} cannot be read: {error}") from None
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not path.is_dir():
            raise ArtifactError(f"{path} was removed by the run that wrote it")
        yield
    finally:
        os.close(descriptor)


def retain(folder: Path, newest: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, one of which was just saved; one that is being read stays.

    What claims to be later than the one just saved was refused when the run resumed, and goes first.
    """
    try:
        found = checkpoints(folder)
        here = step_of(newest) or 0
        older = [path for path in found if (step_of(path) or 0) < here]
        stale = [path for path in found if (step_of(path) or 0) > here]
        gone = [*stale, *older[: max(0, len(older) - max(1, keep) + 1)]]
        # Out of sight first, and that for good: neither a kill nor a power cut may leave a part under its name.
        hidden = [name for name in (_hide(path) for path in gone) if name is not None]
        if hidden:
            sync(folder)
        for path in hidden:
            remove_tree(path)
    except OSError as error:
        raise NotRemoved(*error.args) from error


def sweep(folder: Path) -> None:
    """Remove what a kill during a save has left behind; only the job that holds the folder may do so."""
    for pattern in (f".{PREFIX}*.tmp", f".{PREFIX}*.old"):
        for path in folder.glob(pattern):
            remove_tree(path)


def _hide(path: Path) -> Path | None:
    """Take a checkpoint's name away and return its hidden one; None where somebody is reading it."""
    try:
        descriptor = os.open(path / MANIFEST, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = None
    try:
        if descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in TAKEN:
                    return None
        hidden = beside(path, "old")
        os.rename(path, hidden)
        return hidden
    finally:
        if descriptor is not None:
            os.close(descriptor)
