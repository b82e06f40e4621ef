"""Going on from a checkpoint: the newest sound one, put back to the last bit, at any number of ranks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from hanok.core.artifact import ArtifactError
from hanok.core.errors import UsageError
from hanok.core.rng import derive
from hanok.train.checkpoint.file import Shelf
from hanok.train.checkpoint.folder import checkpoints, reading
from hanok.train.checkpoint.manifest import STATE, read_json, verify
from hanok.train.checkpoint.pieces import names_of
from hanok.train.checkpoint.ranks import exchange, place
from hanok.train.checkpoint.save import COUNTERS, EXTRA, MODEL, OPTIMIZER, rank_file, weights_of

if TYPE_CHECKING:
    from hanok.train.state import TrainState

Say = Callable[[str], None]


@dataclass
class Sound:
    """A checkpoint whose every bit is as it was written: its records, and its files by kind."""

    path: Path
    ranks: int
    state: dict[str, Any]
    sides: list[dict[str, Any]]
    files: dict[str, list[Path]]


def resume(state: TrainState, folder: Path, say: Say = print) -> Path | None:
    """Restore the newest sound checkpoint and return it; None where there is none.

    A damaged one is refused by name, and the next older one is used. If all are damaged, that is an error: starting
    over would throw a run away silently. Every rank calls this; it may be another number of ranks than saved.
    """
    with ExitStack() as held:
        sound = newest(folder, held, say)
        if sound is not None:
            _restore(state, sound)
        return None if sound is None else sound.path


def load_weights(model: nn.Module, folder: Path, say: Say = print) -> Path:
    """Put the weights of the newest sound checkpoint of a run, which may be going on, into a model."""
    with ExitStack() as held:
        sound = newest(folder, held, say)
        if sound is None:
            raise UsageError(f"{folder} holds no checkpoint")
        _restore_weights(model, sound)
        return sound.path


def newest(folder: Path, held: ExitStack, say: Say) -> Sound | None:
    """Return the newest sound checkpoint, which nobody removes before `held` is closed."""
    tried: list[str] = []
    refused: list[str] = []
    while True:  # listed anew each time: a run that goes on may have replaced what was there
        names = [path.name for path in checkpoints(folder)]
        left = [name for name in exchange(names)[0] if name not in tried]
        if not left:
            break
        tried.append(left[-1])
        path = folder / left[-1]
        with ExitStack() as lock:
            problem = None
            try:
                lock.enter_context(reading(path))
            except ArtifactError as error:
                problem = str(error)
            problem = next(filter(None, exchange(problem)), None)  # of whichever rank has one
            if problem is None:
                try:
                    sound = _inspect(path)
                    held.enter_context(lock.pop_all())
                    return sound
                except ArtifactError as error:
                    problem = str(error)
            if path.exists():
                refused.append(f"{path.name}: {problem}")
                if place()[0] == 0:
                    say(f"refused the checkpoint {path.name}: {problem}")
    if refused:
        raise ArtifactError(
            f"every checkpoint in {folder} is damaged ({'; '.join(refused)}); --resume false starts over"
        )
    return None


def _inspect(path: Path) -> Sound:
    """Read what a checkpoint says and hold it against its manifest; every rank comes to the same answer."""
    facts = verify(path)
    problem = None
    try:
        files: dict[str, list[Path]] = {MODEL: [], OPTIMIZER: [], EXTRA: []}
        for name in sorted(facts["files"]):
            if name.endswith(".safetensors"):
                files[name.split("-")[0]].append(path / name)
        for found in files.values():
            Shelf(found)  # reads every header
        sides = [read_json(path / rank_file(rank)) for rank in range(facts["ranks"])]
        sound = Sound(path, facts["ranks"], read_json(path / STATE), sides, files)
        _check(sound)
    except ArtifactError as error:
        problem = str(error)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{path} is no checkpoint of a run: {error!r}"
    told = [text for text in exchange(problem) if text is not None]
    if told:
        raise ArtifactError(told[0])
    return sound


def _check(sound: Sound) -> None:
    for name in (*COUNTERS, "fingerprint", "optimizer", "extra"):
        sound.state[name]
    for side in sound.sides:
        for name in ("source", "rng", "torch_rng"):
            side[name]


def _restore(state: TrainState, sound: Sound) -> None:
    if sound.state["fingerprint"] != state.fingerprint:
        raise UsageError(f"{sound.path} belongs to a run with another configuration; choose another folder")
    weights = weights_of(state.model)
    _restore_weights(state.model, sound)
    moments = Shelf(sound.files[OPTIMIZER], _layout(weights))
    state.optimizer.restore(cast(Any, moments), sound.state["optimizer"])
    for name, kept in state.extra.items():
        if name not in sound.state["extra"]:
            raise UsageError(f"{sound.path} holds no {name!r}: it belongs to a run without it")
        kept.restore(cast(Any, _Drawer(Shelf(sound.files[EXTRA], _layout(weights)), name)), sound.state["extra"][name])
    _restore_side(state, sound)
    for name in COUNTERS:
        setattr(state, name, sound.state[name])


def _restore_weights(model: nn.Module, sound: Sound) -> None:
    weights = weights_of(model)
    shelf = Shelf(sound.files[MODEL])
    odd = set(shelf) ^ names_of(weights)
    if odd:
        raise UsageError(f"{sound.path} belongs to another model: {min(odd)!r} is in only one")
    for name, tensor in weights.items():
        if shelf.shape(name) != tuple(tensor.shape):
            raise UsageError(
                f"{sound.path} belongs to another model: {name!r} is of {list(shelf.shape(name))} there, "
                f"of {list(tensor.shape)} here"
            )
        shelf.read(name, tensor)


def _restore_side(state: TrainState, sound: Sound) -> None:
    """Put back what each rank knew; more ranks than before get random numbers of their own, never another's."""
    rank, size = place()
    if size != sound.ranks and any(side["source"] != sound.sides[0]["source"] for side in sound.sides):
        raise UsageError(
            f"{sound.path} was written by {sound.ranks} ranks that read data of their own, which {size} cannot share "
            f"out: go on with {sound.ranks}"
        )
    known = rank < sound.ranks
    side = sound.sides[rank if known else 0]
    state.source.restore(side["source"])
    state.rng.restore(side["rng"])
    if known:
        torch.set_rng_state(_bytes(side["torch_rng"]))
        if "cuda_rng" in side and torch.cuda.is_available():
            torch.cuda.set_rng_state(_bytes(side["cuda_rng"]))
    else:
        seed = int(hashlib.sha256(side["torch_rng"].encode()).hexdigest()[:15], 16)
        torch.manual_seed(derive(seed, f"rank {rank}"))


def _layout(weights: dict[str, Tensor]) -> Callable[[str, tuple[int, ...]], Tensor | None]:
    """Return which weight a tensor of an optimiser or of a companion belongs to, if it has the weight's shape."""

    def like(name: str, shape: tuple[int, ...]) -> Tensor | None:
        path = name.split("/")[-1]
        while path:
            if path in weights:
                return weights[path] if tuple(weights[path].shape) == shape else None
            path = path.rpartition(".")[0]
        return None

    return like


class _Drawer(dict[str, Tensor]):
    """One companion's tensors, under its own names for them."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        super().__init__({key.removeprefix(f"{name}/"): shelf[key] for key in shelf if key.startswith(f"{name}/")})


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
