"""Pieces of tensors in files: however a tensor is cut and wherever its pieces lie, any part of it comes back."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader

from hanok.core.artifact import ArtifactError
from hanok.train.checkpoint.file import Shelf, parts, write_pieces
from hanok.train.checkpoint.pieces import Box, Piece, overlap, volume, within


def cut(rng: random.Random, name: str, tensor: Tensor) -> list[Piece]:
    """Cut a tensor into boxes along a random grid."""
    sides = []
    for length in tensor.shape:
        cuts = sorted({0, length, *(rng.randrange(length + 1) for _ in range(rng.randrange(3)))})
        sides.append(list(itertools.pairwise(cuts)) or [(0, 0)])
    whole = tuple((0, length) for length in tensor.shape)
    boxes: list[Box] = [tuple(box) for box in itertools.product(*sides)]
    return [Piece(name, tuple(tensor.shape), box, tensor[within(box, whole)]) for box in boxes]


def scattered(rng: random.Random, tensors: dict[str, Tensor], folder: Path) -> list[Path]:
    """Write each tensor's pieces into some of several files, never two of one tensor into the same."""
    files: list[list[Piece]] = [[] for _ in range(40)]
    for name, tensor in tensors.items():
        for place, piece in zip(rng.sample(range(40), 40), cut(rng, name, tensor), strict=False):
            files[place].append(piece)
    paths = [folder / f"model-{number:05d}-000.safetensors" for number in range(40)]
    for path, pieces in zip(paths, files, strict=True):
        write_pieces(path, pieces)
    return paths


@pytest.mark.parametrize("seed", range(5))
def test_any_cut_comes_back(seed: int, tmp_path: Path) -> None:
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    shapes = [(), (1,), (7,), (5, 6), (3, 4, 5), (0, 4), (9, 1)]
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8]
    tensors = {
        f"t{number}": (100 * torch.randn(shape, generator=generator)).to(dtypes[(seed + number) % 5])
        for number, shape in enumerate(shapes)
    }
    shelf = Shelf(scattered(rng, tensors, tmp_path))
    assert set(shelf) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(shelf[name], tensor)
        assert shelf[name].dtype == tensor.dtype
    # The outside world: torch's own distributed checkpointing reads the same files.
    theirs = {name: torch.full_like(tensor, 3) for name, tensor in tensors.items() if tensor.numel()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(theirs, storage_reader=HuggingFaceStorageReader(str(tmp_path)), no_dist=True)
    assert all(torch.equal(theirs[name], tensors[name]) for name in theirs)


def test_a_missing_piece_and_another_shape_are_noticed(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    top = Piece("a", (3, 4), ((0, 2), (0, 4)), whole[:2])
    path = tmp_path / "model-00000-000.safetensors"
    write_pieces(path, [top])
    with pytest.raises(ArtifactError, match="4 values of 'a' are in no file"):
        _ = Shelf([path])["a"]
    with pytest.raises(ArtifactError, match=r"'a' is of \[3, 4\], not \[4, 3\]"):
        Shelf([path]).read("a", torch.empty(4, 3))


def test_a_file_that_goes_while_it_is_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors lets torch open it again, which has an error of its own for a file that is not there."""

    def gone(path: Path, framework: str) -> None:
        raise RuntimeError(f"unable to open file <{path}> in read-only mode: No such file or directory (2)")

    (file,) = scattered(random.Random(0), {"a": torch.arange(6.0)}, tmp_path)[:1]
    monkeypatch.setattr("hanok.train.checkpoint.file.safe_open", gone)
    with pytest.raises(ArtifactError, match=f"{file.name} cannot be read"):
        Shelf([file])


def test_files_are_divided_by_size() -> None:
    pieces = [
        Piece(str(number), (size,), ((0, size),), torch.zeros(size)) for number, size in enumerate([1, 2, 9, 1, 1])
    ]
    assert [[piece.name for piece in part] for part in parts(pieces, 12)] == [["0", "1"], ["2"], ["3", "4"]]
    assert parts([], 12) == [[]]


def test_overlaps_against_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(200):
        one, other = (tuple(sorted(rng.sample(range(7), 2)) for _ in range(2)) for _ in range(2))
        cells = [{(x, y) for x in range(*box[0]) for y in range(*box[1])} for box in (one, other)]
        shared = overlap(tuple(map(tuple, one)), tuple(map(tuple, other)))  # type: ignore[arg-type]
        found = set() if shared is None else {(x, y) for x in range(*shared[0]) for y in range(*shared[1])}
        assert found == cells[0] & cells[1]
        assert (volume(shared) if shared else 0) == len(found)


MEMORY = """
import resource, sys, torch
from pathlib import Path
from hanok.train.checkpoint.file import Shelf, parts, write_pieces
from hanok.train.checkpoint.pieces import owned
torch.set_num_threads(1)
def anonymous():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) / 1024
def peak(work):
    import threading
    seen, done = [anonymous()], threading.Event()
    def watch():
        while not done.wait(0.002):
            seen.append(anonymous())
    thread = threading.Thread(target=watch); thread.start(); work(); done.set(); thread.join()
    return max(seen) - seen[0]
folder = Path(sys.argv[1])
tensors = {f"layer{i}": torch.ones(1024, 1024) for i in range(64)}  # 256 MB
files = []
def save():
    for number, part in enumerate(parts(owned(tensors), 64 << 20)):
        files.append(folder / f"model-00000-{number:03d}.safetensors")
        write_pieces(files[-1], part)
def load():
    shelf = Shelf(files)
    for name, tensor in tensors.items():
        shelf.read(name, tensor)
print(peak(save), peak(load), len(files))
"""


@pytest.mark.slow
def test_a_large_state_is_saved_and_loaded_without_a_second_copy(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    saving, loading, files = map(float, done.stdout.split())
    assert files == 4
    assert saving < 20, f"{saving} MB more while 256 MB were saved"
    assert loading < 20, f"{loading} MB more while 256 MB were loaded"
