"""Their tensors into our model, one at a time, and out again: what a family's rules say, done to memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hanok.core.errors import UsageError, suggest
from hanok.core.json_file import clip
from hanok.model.config import ModelConfig
from hanok.model.families.rule import SAME, Piece, expand
from hanok.model.families.table import Family
from hanok.model.tensor_file import Outline

ALIGNED = 64  # bytes: kernels round differently from an odd address
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LONG, MANY = 200, 2000  # characters of a name and names with which it is compared, to suggest the nearest


class Places:
    """Where each tensor of a checkpoint belongs in a model that has these `tensors`, which may be without memory.

    `fixed` names tensors that stay in the dtype they are stored in.
    """

    def __init__(
        self,
        family: Family | None,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        self.fixed = fixed
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        self.base = family.base if family else ""
        self.pieces = {name: Piece((name,), SAME) for name in tensors}
        self.ignored: set[str] = {"head.weight"} if config.embeddings == "tied" else set()
        if family is not None:
            self.pieces, self.ignored = expand(family.weights, config, self.shapes)

    @property
    def complete(self) -> bool:
        """Say whether every tensor of ours has a name of theirs."""
        return set(self.shapes) <= {ours for piece in self.pieces.values() for ours in piece.ours}

    def take_in(
        self, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None, path: Path
    ) -> dict[str, Tensor]:
        """Return our tensors of theirs; one that is missing, left over or of a wrong shape is an error that names it.

        At no time is more than one of their tensors held beside ours. Tensors without memory (meta) are taken for a
        rehearsal, which finds the same errors.
        """
        ours: dict[str, Tensor] = {}
        missing: dict[tuple[str, int | None], str] = {}
        for theirs, piece in self.pieces.items():
            for name in piece.ours:
                missing.setdefault((name, piece.part), theirs)
        for given, tensor in tensors:
            known = self._known(given, path)
            if known is not None:
                piece = self.pieces[known]
                self._take(given, tensor, piece, dtype, ours, path)
                for name in piece.ours:
                    missing.pop((name, piece.part), None)
            del tensor  # before the next is read
        if missing:
            first = next(iter(missing.values()))
            raise UsageError(f"{path}: {len(missing)} tensors are missing, the first is {first!r}")
        if unnamed := sorted(set(self.shapes) - set(ours)):  # the config says what its family has no names for
            raise UsageError(f"{path}: config.json asks for {unnamed[0]}, for which its model_type has no tensor")
        return ours

    def give_out(self, ours: Mapping[str, Tensor]) -> tuple[dict[str, Outline], Callable[[str], Tensor]]:
        """Return what their tensors of ours are, and what makes each of them when it is asked for."""
        written: set[tuple[str, int | None]] = set()
        theirs: dict[str, Outline] = {}
        for name, piece in self.pieces.items():
            if all((target, piece.part) in written for target in piece.ours):
                continue  # an older name of what has been written already
            written |= {(target, piece.part) for target in piece.ours}
            rehearsed = self._join(piece, {target: ours[target].to("meta") for target in piece.ours})
            theirs[name] = Outline(rehearsed.dtype, rehearsed.shape)
        return theirs, lambda name: self._join(self.pieces[name], ours)

    def _join(self, piece: Piece, ours: Mapping[str, Tensor]) -> Tensor:
        parts = [ours[target].detach() for target in piece.ours]
        return piece.op.join(parts if piece.part is None else [part[piece.part] for part in parts])

    def _take(
        self,
        given: str,
        tensor: Tensor,
        piece: Piece,
        dtype: torch.dtype | None,
        ours: dict[str, Tensor],
        path: Path,
    ) -> None:
        """Put one tensor of theirs where it belongs."""
        for target, part in self._split(given, tensor, piece, path).items():
            want = self.dtypes[target]
            if part.dtype not in FLOATS if want in FLOATS else part.dtype != want:
                words = ", ".join(map(_word, FLOATS if want in FLOATS else (want,)))
                raise UsageError(f"{path}: {clip(given)} is stored as {_word(part.dtype)}, where {words} can be read")
            cast = dtype is not None and part.is_floating_point() and target not in self.fixed
            kept = part.to(dtype) if cast else part
            if piece.part is None:
                ours[target] = _own(kept)
                continue
            if target not in ours:
                ours[target] = torch.empty(self.shapes[target], dtype=kept.dtype, device=kept.device)
            ours[target][piece.part] = kept

    def _known(self, given: str, path: Path) -> str | None:
        """Return the name in our table, None where the tensor is to be ignored."""
        for name in (given, self.base + given):
            if name in self.pieces:
                return name
            if name in self.ignored:
                return None
        near = suggest(given[:LONG], list(self.pieces)[:MANY])
        hint = near or " (a layer too many, or a bias?)"
        raise UsageError(f"{path}: the tensor {clip(given)} has no place in this model{hint}")

    def _split(self, given: str, tensor: Tensor, piece: Piece, path: Path) -> dict[str, Tensor]:
        shapes = [self.shapes[name] if piece.part is None else self.shapes[name][1:] for name in piece.ours]
        try:
            parts = list(piece.op.split(tensor, shapes))
        except (RuntimeError, IndexError, ValueError):  # a tensor of so wrong a shape that it cannot be cut at all
            parts = []
        if [part.shape for part in parts] != shapes:
            want = [list(shape) for shape in shapes]
            raise UsageError(
                f"{path}: {clip(given)} has the shape {list(tensor.shape)}, the config asks for "
                f"{want[0] if len(want) == 1 else ' + '.join(map(str, want))}"
            )
        return dict(zip(piece.ours, parts, strict=True))


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _own(part: Tensor) -> Tensor:
    """Return a tensor in memory of its own, contiguous and aligned."""
    part = part.contiguous()
    shares = part.untyped_storage().nbytes() != part.nbytes
    return part.clone() if shares or part.data_ptr() % ALIGNED else part
