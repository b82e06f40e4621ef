"""Everything a run needs to go on as if it had never stopped, and checkpoints that hold it: safetensors and JSON."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hanok.core.artifact import ArtifactError, atomic_directory, file_sha256
from hanok.core.config import digest
from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.text.batch import Batch
from hanok.train.optim.base import Optimizer
from hanok.train.ranks import ALONE, Ranks

MANIFEST, MODEL, OPTIMIZER, STATE = "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"
EXTRA = "extra.safetensors"
COUNTERS = ("step", "steps", "num_tokens", "seconds", "skipped", "skipped_in_row", "norms")


class Source(Protocol):
    """Where batches come from: a stream of data, or a producer that looks at the policy."""

    def next_batch(self) -> Batch:
        """Return the next batch and move on."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the exact position as JSON-able data."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position."""
        ...


class Kept(Protocol):
    """A companion of the run that checkpoints hold too, such as an average of the weights."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state as tensors by name and JSON-able data."""
        ...

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state, to the last bit."""
        ...


@dataclass
class TrainState:
    """A run between two steps; accumulation never spans a checkpoint, so that it needs no state of its own.

    `fingerprint` names the configuration; a checkpoint of another one is refused. `forward` is what objectives call
    where that is not the model itself (a compiled form of it, on the same weights); `extra` are companions by name.
    """

    model: nn.Module
    optimizer: Optimizer
    source: Source
    steps: int
    rng: Streams = field(default_factory=lambda: Streams(0))
    fingerprint: str = ""
    step: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    norms: list[float] = field(default_factory=list)
    ranks: Ranks = ALONE
    forward: Any = None
    extra: dict[str, Kept] = field(default_factory=dict)

    @property
    def policy(self) -> Any:
        """Return what objectives call."""
        return self.model if self.forward is None else self.forward


def save_checkpoint(state: TrainState, folder: Path, *, keep: int = 2) -> Path:
    """Write `folder/step-000123`, whole or not at all, and then remove all but the newest `keep`."""
    path = folder / f"step-{state.step:06d}"
    tensors, optimizer = state.optimizer.state()
    with atomic_directory(path) as work:
        save_file(_weights(state.model), work / MODEL)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, work / OPTIMIZER)
        extra = {name: kept.state() for name, kept in state.extra.items()}
        held = {f"{name}/{key}": value for name, (found, _) in extra.items() for key, value in found.items()}
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, work / EXTRA)
        record = {
            **{name: getattr(state, name) for name in COUNTERS},
            "fingerprint": state.fingerprint,
            "optimizer": optimizer,
            "extra": {name: data for name, (_, data) in extra.items()},
            "source": state.source.state(),
            "rng": state.rng.state(),
            "torch_rng": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode(),
        }
        (work / STATE).write_text(json.dumps(record), encoding="utf-8")
        files = (MODEL, OPTIMIZER, EXTRA, STATE)
        (work / MANIFEST).write_text(_manifest({name: file_sha256(work / name) for name in files}))
    for old in checkpoints(folder)[: -max(1, keep)]:
        # Out of sight first: a kill while it is being removed must not leave half a checkpoint under its name.
        hidden = old.with_name(f".{old.name}.old")
        old.rename(hidden)
        shutil.rmtree(hidden)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def resume(state: TrainState, folder: Path, say: Callable[[str], None] = print) -> Path | None:
    """Restore the newest sound checkpoint and return it; None where there is none.

    A damaged one is refused by name, and the next older one is used. If all are damaged, that is an error: starting
    over would throw a run away silently.
    """
    sweep(folder)
    refused = []
    for path in reversed(checkpoints(folder)):
        try:
            record = _verify(path)
        except ArtifactError as error:
            say(f"refused the checkpoint {path.name}: {error}")
            refused.append(path.name)
            continue
        _restore(state, path, record)
        return path
    if refused:
        raise ArtifactError(
            f"every checkpoint in {folder} is damaged ({', '.join(refused)}): --resume false starts over"
        )
    return None


def sweep(folder: Path) -> None:
    """Remove what a kill during a save has left behind."""
    for pattern in (".step-*.tmp", ".step-*.old"):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _manifest(files: dict[str, str]) -> str:
    """Return the one text that vouches for these files; any changed byte of it is noticed too."""
    return json.dumps({"files": files, "sha256": digest(files)}, sort_keys=True)


def _verify(path: Path) -> dict[str, Any]:
    """Return the state record of a checkpoint whose every bit is as it was written."""
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
        files = json.loads(text)["files"]
        if text != _manifest(files):
            raise ArtifactError(f"{path / MANIFEST} has changed since it was written")
        for name, expected in files.items():
            if file_sha256(path / name) != expected:
                raise ArtifactError(f"{path / name} has changed since it was written (sha256 differs)")
        record: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    return record


def _restore(state: TrainState, path: Path, record: dict[str, Any]) -> None:
    if record["fingerprint"] != state.fingerprint:
        raise UsageError(f"{path} belongs to a run with another configuration; choose another folder")
    try:
        saved, moments, held = (load_file(path / name) for name in (MODEL, OPTIMIZER, EXTRA))
    except SafetensorError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    weights = _weights(state.model)
    if set(saved) != set(weights):
        raise UsageError(f"{path} belongs to another model: {sorted(set(saved) ^ set(weights))[0]!r} is in only one")
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(saved[name])
    state.optimizer.restore(moments, record["optimizer"])
    for name, kept in state.extra.items():
        tensors = {key.removeprefix(f"{name}/"): value for key, value in held.items() if key.startswith(f"{name}/")}
        kept.restore(tensors, record["extra"][name])
    state.source.restore(record["source"])
    state.rng.restore(record["rng"])
    torch.set_rng_state(torch.frombuffer(bytearray(base64.b64decode(record["torch_rng"])), dtype=torch.uint8))
    for name in COUNTERS:
        setattr(state, name, record[name])


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers, each once although two modules may share it."""
    once = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if name in once}
