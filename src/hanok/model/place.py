"""Their tensors into our model, one at a time, and out again: what a family's rules say, done to memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hanok.core.errors import UsageError, suggest
from hanok.model.config import ModelConfig
from hanok.model.families.rule import SAME, Piece, expand
from hanok.model.families.table import Family

ALIGNED = 64  # bytes: kernels round differently from an odd address, and mapped files give odd addresses


class Places:
    """Where each tensor of a checkpoint belongs in a model whose tensors have these `shapes`.

    `fixed` names tensors that stay in the dtype they are stored in.
    """

    def __init__(
        self,
        family: Family | None,
        config: ModelConfig,
        shapes: Mapping[str, torch.Size],
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        self.fixed = fixed
        self.shapes, self.base = shapes, family.base if family else ""
        self.pieces = {name: Piece((name,), SAME) for name in shapes}
        self.ignored: set[str] = {"head.weight"} if config.embeddings == "tied" else set()
        if family is not None:
            self.pieces, self.ignored = expand(family.weights, config, shapes)

    @property
    def complete(self) -> bool:
        """Say whether every tensor of ours has a name of theirs."""
        return set(self.shapes) <= {ours for piece in self.pieces.values() for ours in piece.ours}

    def take_in(
        self, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None, path: Path
    ) -> dict[str, Tensor]:
        """Return our tensors of theirs; one that is missing, left over or of a wrong shape is an error that names it.

        At no time is more than one of their tensors held beside ours.
        """
        ours: dict[str, Tensor] = {}
        missing: dict[tuple[str, int | None], str] = {}
        for theirs, piece in self.pieces.items():
            for name in piece.ours:
                missing.setdefault((name, piece.part), theirs)
        for given, tensor in tensors:
            known = self._known(given, path)
            if known is None:
                continue
            piece = self.pieces[known]
            for target, part in self._split(given, tensor, piece, path).items():
                missing.pop((target, piece.part), None)
                cast = dtype is not None and part.is_floating_point() and target not in self.fixed
                kept = part.to(dtype) if cast else part
                if piece.part is None:
                    ours[target] = _own(kept, tensor)
                    continue
                if target not in ours:
                    ours[target] = torch.empty(self.shapes[target], dtype=kept.dtype)
                ours[target][piece.part] = kept
        if missing:
            first = next(iter(missing.values()))
            raise UsageError(f"{path}: {len(missing)} tensors are missing, the first is {first!r}")
        return ours

    def give_out(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return their tensors of ours."""
        written: set[tuple[str, int | None]] = set()
        theirs: dict[str, Tensor] = {}
        for name, piece in self.pieces.items():
            if all((target, piece.part) in written for target in piece.ours):
                continue  # an older name of what has been written already
            written |= {(target, piece.part) for target in piece.ours}
            parts = [ours[target].detach().cpu() for target in piece.ours]
            parts = parts if piece.part is None else [part[piece.part] for part in parts]
            theirs[name] = piece.op.join(parts).contiguous()
        return theirs

    def _known(self, given: str, path: Path) -> str | None:
        """Return the name in our table, None where the tensor is to be ignored."""
        for name in (given, self.base + given):
            if name in self.pieces:
                return name
            if name in self.ignored:
                return None
        hint = suggest(given, self.pieces) or " (a layer too many, or a bias?)"
        raise UsageError(f"{path}: the tensor {given!r} has no place in this model{hint}")

    def _split(self, given: str, tensor: Tensor, piece: Piece, path: Path) -> dict[str, Tensor]:
        shapes = [self.shapes[name] if piece.part is None else self.shapes[name][1:] for name in piece.ours]
        try:
            parts = list(piece.op.split(tensor, shapes))
        except RuntimeError:  # a tensor of so wrong a shape that it cannot be cut at all
            parts = []
        if [part.shape for part in parts] != shapes:
            want = [list(shape) for shape in shapes]
            raise UsageError(
                f"{path}: {given} has the shape {list(tensor.shape)}, the config asks for "
                f"{want[0] if len(want) == 1 else ' + '.join(map(str, want))}"
            )
        return dict(zip(piece.ours, parts, strict=True))


def _own(part: Tensor, whole: Tensor) -> Tensor:
    """Return a tensor in memory of its own, contiguous and aligned."""
    part = part.contiguous()
    shares = part.untyped_storage().nbytes() != part.nbytes
    return part.clone() if shares or part.data_ptr() % ALIGNED else part
