"""Writing a checkpoint: every rank its share, all flushed and vouched for, and then one rename."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hanok.core.durable import make_dirs, publish, remove_tree, write_file
from hanok.core.errors import HanokError
from hanok.train.checkpoint.file import parts, write_pieces
from hanok.train.checkpoint.folder import NotRemoved, retain
from hanok.train.checkpoint.manifest import MANIFEST, STATE, manifest, name_of
from hanok.train.checkpoint.pieces import Piece, owned
from hanok.train.checkpoint.ranks import agree, exchange, place

if TYPE_CHECKING:
    from hanok.train.state import TrainState

MODEL, OPTIMIZER, EXTRA = "model", "optimizer", "extra"
COUNTERS = ("step", "steps", "num_tokens", "seconds", "skipped", "skipped_in_row", "norms")
PART_BYTES = 4 << 30


def save_checkpoint(state: TrainState, folder: Path, *, keep: int = 2, part_bytes: int = PART_BYTES) -> Path:
    """Write `folder/step-000123`, whole or not at all, and then remove all but the newest `keep`.

    Every rank calls this at the same step and writes its share, in files of at most `part_bytes`; if one fails, all
    raise. `NotRemoved` is raised where the new checkpoint is safe and an old one could not be removed.
    """
    rank, size = place()
    path = folder / name_of(state.step)
    work = folder / f".{path.name}.{exchange(secrets.token_hex(4))[0]}.tmp"
    error: BaseException | None = None
    try:
        try:
            if rank == 0:
                make_dirs(folder)
                os.mkdir(work, 0o700)
        except OSError as failed:
            error = failed
        agree(error)
        tensors, facts = _contents(state)
        shares = {kind: owned(found) for kind, found in tensors.items()}
        files: dict[str, str] = {}
        try:
            _check_finite(shares[MODEL], dict(state.model.named_parameters()))
            files = _write(work, rank, shares, part_bytes)
            files |= _write_facts(work, rank, state, facts)
        except (OSError, HanokError) as failed:
            error = failed
        agree(error)
        told = exchange(files)
        try:
            if rank == 0:
                every = {name: sha for share in told for name, sha in share.items()}
                write_file(work / MANIFEST, [manifest(state.step, size, every).encode()])
                publish(work, path)
        except OSError as failed:
            error = failed
        agree(error)
    finally:
        if rank == 0:
            remove_tree(work)
    try:
        if rank == 0:
            retain(folder, path, keep)
    except NotRemoved as failed:
        error = failed
    agree(error, NotRemoved)
    return path


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers, each once although two modules may share it."""
    once = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if name in once}


def _contents(state: TrainState) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return all tensors by kind, and the JSON data of the optimiser and of the companions."""
    moments, optimizer = state.optimizer.state()
    extra = {name: kept.state() for name, kept in state.extra.items()}
    held = {f"{name}/{key}": value for name, (found, _) in extra.items() for key, value in found.items()}
    tensors = {MODEL: weights_of(state.model), OPTIMIZER: moments, EXTRA: held}
    return tensors, {"optimizer": optimizer, "extra": {name: data for name, (_, data) in extra.items()}}


def _write(work: Path, rank: int, shares: dict[str, list[Piece]], part_bytes: int) -> dict[str, str]:
    files = {}
    for kind, pieces in shares.items():
        if not pieces and rank > 0:
            continue
        for number, part in enumerate(parts(pieces, part_bytes)):
            name = f"{kind}-{rank:05d}-{number:03d}.safetensors"
            files[name] = write_pieces(work / name, part)
    return files


def _write_facts(work: Path, rank: int, state: TrainState, facts: dict[str, Any]) -> dict[str, str]:
    """Write what is no tensor: figures of the run once, positions and random numbers of each rank."""
    mine: dict[str, Any] = {
        "source": state.source.state(),
        "rng": state.rng.state(),
        "torch_rng": _text(torch.get_rng_state()),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        mine["cuda_rng"] = _text(torch.cuda.get_rng_state())
    records = {rank_file(rank): mine}
    if rank == 0:
        counters = {name: getattr(state, name) for name in COUNTERS}
        records[STATE] = {**counters, "fingerprint": state.fingerprint, **facts}
    return {name: write_file(work / name, [json.dumps(record).encode()]) for name, record in records.items()}


def rank_file(rank: int) -> str:
    """Return the name of the file that holds what only one rank knows."""
    return f"rank-{rank:05d}.json"


def _check_finite(pieces: list[Piece], parameters: Container[str]) -> None:
    for piece in (piece for piece in pieces if piece.name in parameters):
        values = piece.values
        # The sum needs no memory, and is finite where every value is, but for an overflow.
        if values.is_floating_point() and values.element_size() > 1 and not bool(torch.isfinite(values.sum())):
            count = int((~torch.isfinite(values)).sum())
            if count:
                raise HanokError(f"{count} values of {piece.name!r} are not finite: such a state is not saved")


def _text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()
