"""What a refused step saw, written down so that it can be taken again: `hanok replay` reads it."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from hanok.core.artifact import atomic_directory, file_sha256
from hanok.text.batch import Batch
from hanok.train.hook import Hook, Record
from hanok.train.objective.policy import Objective
from hanok.train.state import TrainState

BUNDLE, BATCHES, WEIGHTS = "bundle.json", "batches.safetensors", "model.safetensors"
RANK = "-rank-"
FIELDS = ("tokens", "targets", "weights", "positions", "segments")


class Spike(Hook):
    """Writes `folder/step-000123` for each refused step: batches, weights, RNG, position, figures, gradient norms.

    The newest `keep` stay. Weights that are those of the bundle before take no room again. What cannot be written (a
    full disk) is said, and the run goes on. Where weights are sharded over processes, each writes its batches alone.
    """

    def __init__(
        self, folder: Path, objective: Objective, loop: Any, *, keep: int = 3, say: Callable[[str], None] = print
    ) -> None:
        self.folder, self.keep, self.say = folder, keep, say
        config = getattr(objective, "config", None)
        self._told = {"objective": None if config is None else config.to_dict(), "loop": loop.to_dict()}
        self._before: dict[str, Any] = {}

    def start(self, state: TrainState) -> None:
        """Note where the first step begins."""
        self._before = {"source": state.source.state(), "rng": torch.get_rng_state()}

    def after_step(self, state: TrainState, record: Record) -> None:
        """Note where the next step begins."""
        self.start(state)

    def skipped(self, state: TrainState, batches: Sequence[Batch], record: Record) -> None:
        """Write the bundle of a step that was refused."""
        rank = "" if state.ranks.size == 1 else str(state.ranks.rank)
        path = self.folder / (f"step-{state.step + 1:06d}" + (rank and RANK + rank))
        try:
            self._write(path, state, batches, record)
        except (OSError, SafetensorError) as error:
            self.say(f"step {state.step + 1} is refused; what it saw could not be written ({error})")
            return
        self.say(
            f"step {state.step + 1} is refused (loss {record['loss']:.4g}, gradient norm {record['grad_norm']:.4g})"
        )
        self.say(f"what it saw: hanok replay {path}")

    def _write(self, path: Path, state: TrainState, batches: Sequence[Batch], record: Record) -> None:
        rank = path.name.partition(RANK)[2]
        older = bundles(self.folder, rank)
        if path.exists():  # an earlier life of the run was refused here too
            shutil.rmtree(path)
        with atomic_directory(path) as work:
            save_file(_flat(batches), work / BATCHES)
            files = [BATCHES]
            weights = _weights(state.model)
            if weights is not None:
                save_file(weights, work / WEIGHTS)
                files.append(WEIGHTS)
                _share(work / WEIGHTS, older)
            config = getattr(state.model, "config", None)
            data = {
                "step": state.step + 1,
                "record": {name: plain(value) for name, value in record.items()},
                "usual_norm": plain(sorted(state.norms)[len(state.norms) // 2]) if state.norms else None,
                "layers": gradient_norms(state.model),
                "model": None if config is None else config.to_dict(),
                **self._told,
                "micro_batches": len(batches),
                "source": self._before.get("source"),
                "torch_rng": _text(self._before.get("rng")),
                "rng": state.rng.state(),
                "fingerprint": state.fingerprint,
                "sha256": {name: file_sha256(work / name) for name in files},
            }
            (work / BUNDLE).write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        for old in bundles(self.folder, rank)[: -self.keep]:
            shutil.rmtree(old)


def bundles(folder: Path, rank: str = "") -> list[Path]:
    """Return the bundles of a folder, those of one rank or of a lone process, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and path.name.partition(RANK)[2] == rank)


def gradient_norms(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return for each parameter the norm of its gradient, and how many of its numbers are not finite."""
    found = {}
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if type(grad) is Tensor:
            bad = int((~grad.isfinite()).sum())
            found[name] = {"norm": plain(grad.float().norm().item()), "not_finite": bad}
    return found


def plain(value: float) -> float | str:
    """Return a number that JSON can hold; what is not finite becomes its name."""
    return value if math.isfinite(value) else repr(float(value))


def _flat(batches: Sequence[Batch]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        parts = {name: getattr(batch, name) for name in FIELDS} | {f"columns.{k}": v for k, v in batch.columns.items()}
        named |= {f"{number}.{k}": v.detach().cpu().clone().contiguous() for k, v in parts.items() if v is not None}
    return named


def _weights(model: nn.Module) -> dict[str, Tensor] | None:
    """Return parameters and buffers, each once; None where this process holds only a part of them."""
    if any(type(parameter) is not nn.Parameter for parameter in model.parameters()):
        return None
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}


def _share(file: Path, older: Sequence[Path]) -> None:
    """Put a link in the place of a file that the newest bundle has already."""
    if not older or not (older[-1] / WEIGHTS).is_file() or file_sha256(older[-1] / WEIGHTS) != file_sha256(file):
        return
    file.unlink()
    try:
        os.link(older[-1] / WEIGHTS, file)
    except OSError:  # a file system without links
        shutil.copyfile(older[-1] / WEIGHTS, file)


def _text(state: Tensor | None) -> str | None:
    return None if state is None else base64.b64encode(state.numpy().tobytes()).decode()
