"""THE Linear: every matrix product with a weight goes through here, whatever the weight is stored as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.ops.matmul import linear
from hanok.ops.native import exact_kernels
from hanok.ops.native.product import Packed, product, ready
from hanok.ops.numerics import current

GROUP, LANES = 32, 16  # of int4: inputs that share a scale, outputs that lie together
MANY = 256  # rows from which on unpacking bf16 once and taking the library's product is faster than reading it packed


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
        if kind not in self.formats:
            raise UsageError(f"{type(self).__name__} cannot be stored as {kind!r} (known: {', '.join(self.formats)})")
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

    The kernels round rows to 16 bits in blocks of 512 inputs and add up whole numbers (3e-5 of a row of normal
    numbers). Where they are not there the product unpacks the weight into the dtype of the input: it then saves
    memory, not time.
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
        return packed_product(self, x, self.weight, self.weight_scale.float())


class Bf16Linear(Linear):
    """A Linear whose weight is bfloat16 whatever the model computes in: float32's exponent, 8 bits of the rest."""

    kind = "bf16"

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        nn.Module.__init__(self)
        self.inputs, self.outputs = inputs, outputs
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.bfloat16))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @classmethod
    def from_linear(cls, source: Linear) -> Bf16Linear:
        """Round to the nearest: each weight moves by at most 1 / 256 of itself."""
        packed = cls(source.inputs, source.outputs, bias=source.bias is not None)
        packed.weight = source.unpacked().detach().to(torch.bfloat16)
        packed.bias = source.bias
        return packed

    def unpacked(self) -> Tensor:
        return self.weight.float()

    def forward(self, x: Tensor) -> Tensor:
        return packed_product(self, x, self.weight, None)


class Int4Linear(Linear):
    """A Linear whose weight is int4 in groups of 32 inputs: W = scale * (q - 8) with q in 0 .. 15.

    Laid out as the kernels read it, tile by tile of 16 outputs: `weight` (tiles, groups, 256) uint8 holds for each
    group, at byte 64 b + 4 r + j, output r with input 4 b + j in the low half and 16 + 4 b + j in the high one.
    `weight_scale` (tiles, groups, 16) int16 holds the bits of float16, so that changing the model's dtype leaves them
    alone. Missing inputs and outputs of the last group and tile are filled with zeros. 4.5 bits per weight.
    The product rounds each group of 32 inputs to 8 bits (the kernels then add up whole numbers, and without them the
    weight is unpacked), so that a model has the same errors wherever it runs.
    """

    kind = "int4"

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        nn.Module.__init__(self)
        self.inputs, self.outputs = inputs, outputs
        tiles, groups = -(-outputs // LANES), -(-inputs // GROUP)
        self.weight_scale: Tensor
        self.register_buffer("weight", torch.full((tiles, groups, GROUP * LANES // 2), 0x88, dtype=torch.uint8))
        self.register_buffer("weight_scale", torch.zeros(tiles, groups, LANES, dtype=torch.int16))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @classmethod
    def from_linear(cls, source: Linear) -> Int4Linear:
        """Round each group to 16 levels, of which the farthest is its largest weight: at most half a scale of error.

        The one side has a level less than the other: a weight as large as the largest, of the other sign, moves by one.
        """
        packed = cls(source.inputs, source.outputs, bias=source.bias is not None)
        tiles, groups = packed.weight.shape[:2]
        weight = source.unpacked().detach().float()
        weight = F.pad(weight, (0, groups * GROUP - source.inputs, 0, tiles * LANES - source.outputs))
        weight = weight.view(tiles, LANES, groups, GROUP)
        largest = weight.gather(-1, weight.abs().argmax(-1, keepdim=True))
        scale = (largest / -8).half()
        q = (weight / scale.float().where(scale != 0, 1)).round().add(8).clamp(0, 15).to(torch.uint8)
        halves = q.view(tiles, LANES, groups, 2, 4, 4).permute(3, 0, 2, 4, 1, 5)
        packed.weight = (halves[0] | halves[1] << 4).reshape(tiles, groups, -1).contiguous()
        packed.weight_scale = scale.squeeze(-1).transpose(1, 2).contiguous().view(torch.int16)
        packed.bias = source.bias
        return packed

    def unpacked(self) -> Tensor:
        tiles, groups = self.weight.shape[:2]
        halves = torch.stack((self.weight & 15, self.weight >> 4))
        q = halves.view(2, tiles, groups, 4, LANES, 4).permute(1, 4, 2, 0, 3, 5).reshape(tiles, LANES, groups, GROUP)
        scale = self.weight_scale.view(torch.float16).transpose(1, 2).unsqueeze(-1)
        weight = (q.float() - 8) * scale.float()
        return weight.reshape(tiles * LANES, groups * GROUP)[: self.outputs, : self.inputs]

    def forward(self, x: Tensor) -> Tensor:
        return packed_product(self, x, self.weight, self.weight_scale)


def packed_product(module: Linear, x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
    """Return the product of rows with a packed weight by the kernels, or with the unpacked one where they are not.

    In exact numerics one or the other for the whole process, so that a row's bits are the same in every program part.
    """
    exact, library = current() == "exact", ready(x)
    if exact and library is not None:
        library = exact_kernels()
    if library is None or (weight.dtype == torch.bfloat16 and not exact and x.numel() > MANY * x.shape[-1]):
        if weight.dtype != torch.uint8:
            return linear(x, module.unpacked().to(x.dtype), module.bias)
        rows = rounded(x)
        y = linear(rows, module.unpacked().to(rows.dtype)).to(x.dtype)
        return y if module.bias is None else y + module.bias
    if not (torch.is_grad_enabled() and (x.requires_grad or module.bias is not None)):
        return product(library, x, weight, module.bias, scale, module.outputs)
    out: Tensor = Packed.apply(x, library, (weight, scale, module.outputs), module.unpacked)
    return out if module.bias is None else out + module.bias


def rounded(x: Tensor) -> Tensor:
    """Return rows (..., K), each group of 32 numbers rounded to 255 levels around zero, in float32 at least.

    The gradient passes through as if nothing had been rounded.
    """
    rows = x.to(torch.promote_types(x.dtype, torch.float32))
    parts = F.pad(rows.detach(), (0, -x.shape[-1] % GROUP)).unflatten(-1, (-1, GROUP))
    top = parts.abs().amax(-1, keepdim=True)
    near: Tensor = ((parts * (127 / top.where(top > 0, 1))).round() * (top / 127)).flatten(-2)[..., : x.shape[-1]]
    return near if not rows.requires_grad else rows + (near - rows.detach())


Linear.formats = {"dense": Linear, "bf16": Bf16Linear, "int8": Int8Linear, "int4": Int4Linear}


def swap(root: nn.Module, name: str, replacement: Linear) -> None:
    """Put another Linear in the place of the one at a dotted name."""
    parent, _, last = name.rpartition(".")
    replaced = root.get_submodule(name)
    if isinstance(replaced, Linear):
        replacement.active = replaced.active
    setattr(root.get_submodule(parent), last, replacement)
