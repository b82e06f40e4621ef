"""Damage: whatever happens to a file of a checkpoint is found, the file is named, and the one before is used."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hanok.train.checkpoint import manifest
from hanok.train.state import TrainState, resume, save_checkpoint

from .states import advance, same, small, snapshot


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, TrainState]:
    """Return two checkpoints in several shards each, and the run as it was at the first."""
    state = small(2)
    first = save_checkpoint(state, tmp_path / "run", keep=9, part_bytes=600)
    advance(state)
    return first, save_checkpoint(state, tmp_path / "run", keep=9, part_bytes=600), small(2)


@contextmanager
def put_back(path: Path) -> Iterator[None]:
    """Undo whatever is done to a file."""
    raw = path.read_bytes()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(raw)


def refused(newest: Path, target: TrainState) -> tuple[str, str]:
    """Return which checkpoint is used, and what was said about the damaged one."""
    said: list[str] = []
    found = resume(target, newest.parent, said.append)
    assert found is not None
    return found.name, "\n".join(said)


@pytest.mark.parametrize("tries", [50, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_flipped_bit_or_cut_is_found(pair: tuple[Path, Path, TrainState], tries: int) -> None:
    first, newest, good = pair
    rng, target = random.Random(tries), small(seed=1)
    files = sorted(newest.iterdir())
    assert len(files) > 12
    for number in range(tries):
        file = rng.choice(files)
        size = file.stat().st_size
        with put_back(file):
            if number % 4:
                place, bit = rng.randrange(size), rng.randrange(8)
                with file.open("r+b") as opened:
                    opened.seek(place)
                    byte = opened.read(1)[0] ^ (1 << bit)
                    opened.seek(place)
                    opened.write(bytes([byte]))
            else:
                os.truncate(file, rng.choice([0, size - 1, rng.randrange(size)]))
            used, said = refused(newest, target)
        assert used == first.name
        assert str(file) in said, f"{file} is not named: {said}"
    assert same(snapshot(target), snapshot(good))
    assert refused(newest, target) == (newest.name, "")


def swaps(newest: Path, first: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Yield what may go wrong with whole files, and the file that must be named."""
    shards = sorted(newest.glob("*.safetensors"))
    for one, other in permutations(shards, 2):
        if one.name[:5] == other.name[:5]:
            yield one, lambda one=one, other=other: shutil.copy(other, one) and None  # type: ignore[misc]
    for file in sorted(newest.iterdir()):
        yield file, lambda file=file: file.unlink()  # type: ignore[misc]
        older = first / file.name
        if older.read_bytes() != file.read_bytes():
            yield file, lambda file=file, older=older: shutil.copy(older, file) and None  # type: ignore[misc]
    for file in shards:
        more = file.with_name("model-00009-000.safetensors")
        yield more, lambda file=file, more=more: shutil.copy(file, more) and None  # type: ignore[misc]


@pytest.mark.parametrize("tries", [30, pytest.param(9999, marks=pytest.mark.slow)])
def test_swapped_missing_and_duplicate_shards_are_found(pair: tuple[Path, Path, TrainState], tries: int) -> None:
    first, newest, good = pair
    target = small(seed=1)
    every = list(swaps(newest, first))
    assert len(every) > 100
    for named, damage in random.Random(0).sample(every, min(tries, len(every))):
        extra = not named.exists()
        with put_back(next(newest.iterdir()) if extra else named):
            damage()
            used, said = refused(newest, target)
        if extra:
            named.unlink()
        assert used == first.name
        assert str(named) in said
    assert same(snapshot(target), snapshot(good))
    assert refused(newest, target) == (newest.name, "")


def test_a_whole_checkpoint_under_another_name_is_found(pair: tuple[Path, Path, TrainState]) -> None:
    first, newest, _ = pair
    shutil.rmtree(newest)
    shutil.copytree(first, newest)
    used, said = refused(newest, small(seed=1))
    assert used == first.name
    assert f"{newest / 'manifest.json'} is the manifest of step 2" in said


def test_control_without_sha256_most_flips_go_unnoticed(
    pair: tuple[Path, Path, TrainState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors alone does not notice: this arm shows that the tests above are not blind."""
    _, newest, _ = pair
    monkeypatch.setattr(manifest, "_compare", lambda path, files: None)
    unnoticed, target = 0, small(seed=1)
    file = newest / "model-00000-000.safetensors"
    assert load_file(file)
    for place in range(1, 41):
        with put_back(file):
            raw = bytearray(file.read_bytes())
            raw[-place] ^= 8
            file.write_bytes(raw)
            unnoticed += refused(newest, target)[0] == newest.name
    assert unnoticed == 40
