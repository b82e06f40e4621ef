"""A model's linears packed, and the error that this puts into each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from hanok.compress.quantize import Quantizer
from hanok.core.errors import UsageError, suggest
from hanok.model.model import Model
from hanok.nn.linear import Linear, swap


@dataclass(frozen=True)
class LayerError:
    """What packing did to one Linear: |W' - W| / |W|, |y' - y| / |y| on calibration text (Frobenius), and its size."""

    name: str
    kind: str
    shape: tuple[int, int]
    weight_error: float
    max_weight_error: float
    output_error: float | None
    bytes_before: int
    bytes_after: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able data."""
        return asdict(self)


def linears(model: nn.Module) -> dict[str, Linear]:
    """Return the linears of a model by dotted name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def quantized(model: Model, quantizer: Quantizer, *, keep: Sequence[str] = ("head",)) -> Model:
    """Return a copy whose linears are packed, except those whose name matches a pattern of `keep`.

    Embeddings are no linears and stay. A head that shares its weight with the embedding must be kept.
    """
    names = list(linears(model))
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"keep: {pattern!r} fits no linear of this model{suggest(pattern, names)}")
    chosen = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in keep)]
    if "head" in chosen and model.config.embeddings == "tied":
        raise UsageError("keep: the head shares its weight with the embedding here; add 'head' to keep")
    packed = copy.deepcopy(model)
    for name, module in linears(packed).items():
        if name in chosen:
            swap(packed, name, quantizer.pack(module))
    return packed


def layer_errors(model: Model, packed: Model, sequences: Sequence[Sequence[int]] = ()) -> list[LayerError]:
    """Compare the packed linears with the originals, their outputs on what the original model sees in `sequences`."""
    before, after = linears(model), linears(packed)
    changed = [name for name in before if after[name].kind != before[name].kind]
    outputs = _output_errors(model, {name: (before[name], after[name]) for name in changed}, sequences)
    rows = []
    for name in changed:
        old, new = before[name], after[name]
        weight = old.unpacked().detach().float()
        change = new.unpacked().detach().float() - weight
        rows.append(
            LayerError(
                name=name,
                kind=new.kind,
                shape=(old.outputs, old.inputs),
                weight_error=_ratio(change.square().sum(), weight.square().sum()),
                max_weight_error=float(change.abs().max()),
                output_error=outputs.get(name),
                bytes_before=weight_bytes(old),
                bytes_after=weight_bytes(new),
            )
        )
    return rows


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's own tensors."""
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


Pairs = dict[str, tuple[Linear, Linear]]


def _output_errors(model: Model, pairs: Pairs, sequences: Sequence[Sequence[int]]) -> dict[str, float]:
    """Run the original model and give every pair the same input."""
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in pairs}
    with torch.no_grad(), _watched(pairs, sums):
        for sequence in sequences:
            if len(sequence):
                model.hidden(torch.tensor([list(sequence)[: model.config.context]], device=model.device))
    return {name: _ratio(*total) for name, total in sums.items() if total[1] > 0}


@contextmanager
def _watched(pairs: Pairs, sums: dict[str, Tensor]) -> Iterator[None]:
    handles = []
    for name, (old, new) in pairs.items():

        def compare(_: nn.Module, inputs: Any, output: Tensor, name: str = name, new: Linear = new) -> None:
            change = new(inputs[0]).double() - output.double()
            sums[name] += torch.stack([change.square().sum(), output.double().square().sum()]).cpu()

        handles.append(old.register_forward_hook(compare))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ratio(change: Tensor, whole: Tensor) -> float:
    return float((change / whole.clamp_min(torch.finfo(whole.dtype).tiny)).sqrt())
