"""THE Linear: every matrix product with a weight goes through here, whatever the weight is stored as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hanok.ops.matmul import linear


class Linear(nn.Module):
    """y = x W^T + b with W (out, in).

    The model's FLOPs are counted as two per weight of the modules of this class, times the `active` of its `copies`;
    one that a token passes several times (`model/shared.py`) is more active than it has copies.
    """

    kind = "dense"
    formats: ClassVar[dict[str, Any]] = {}
    copies = 1
    active: float = 1
    product: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)  # training may put another here

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.weight: Tensor = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight, self.bias)

    @property
    def idle(self) -> float:
        """Return how many of its numbers a token does not use."""
        held = self.weight.numel() + (0 if self.bias is None else self.bias.numel())
        return held * max(0.0, 1 - self.active / self.copies)

    def unpacked(self) -> Tensor:
        """Return the weight as floating-point numbers."""
        return self.weight

    def pack(self, kind: str) -> Linear:
        """Return this product with its weight in another format, one of `formats`."""
        packed: Linear = self.formats[kind].from_linear(self)
        return packed

    def blank(self, kind: str) -> Linear:
        """Return an empty Linear of the same shape in a format, to be filled from a file."""
        empty: Linear = self.formats[kind](self.inputs, self.outputs, bias=self.bias is not None)
        return empty

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, {self.kind}"


class Int8Linear(Linear):
    """A Linear whose weight is int8 with one float scale per output: W = scale * int8, |int8| <= 127.

    It saves memory, not time: the product unpacks the weight into the dtype of the input.
    """

    kind = "int8"

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        nn.Module.__init__(self)
        self.inputs, self.outputs = inputs, outputs
        self.weight_scale: Tensor
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @classmethod
    def from_linear(cls, source: Linear) -> Int8Linear:
        """Round each row to the nearest of 255 levels, symmetric around zero; the error is at most half a scale."""
        weight = source.unpacked().detach().float()
        packed = cls(source.inputs, source.outputs, bias=source.bias is not None)
        scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        packed.weight = (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        packed.weight_scale = scale
        packed.bias = source.bias
        return packed

    def unpacked(self) -> Tensor:
        return self.weight.to(self.weight_scale.dtype) * self.weight_scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.unpacked().to(x.dtype), self.bias)


Linear.formats = {"dense": Linear, "int8": Int8Linear}


def swap(root: nn.Module, name: str, replacement: Linear) -> None:
    """Put another Linear in the place of the one at a dotted name."""
    parent, _, last = name.rpartition(".")
    replaced = root.get_submodule(name)
    if isinstance(replaced, Linear):
        replacement.active = replaced.active
    setattr(root.get_submodule(parent), last, replacement)
