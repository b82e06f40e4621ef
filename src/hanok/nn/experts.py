"""Stacked weights of experts: one Linear per expert in one tensor, applied to rows that are sorted by expert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hanok.nn.linear import Linear
from hanok.ops.matmul import linear
from hanok.ops.route import grouped

Product = Callable[[Tensor], Tensor]


class ExpertLinear(Linear):
    """y = x W_e^T + b_e for the rows of expert e, with W (E, out, in) and b (E, out).

    `copies` is how many experts are stored, `active` how many of them a token visits (on average).
    """

    def __init__(self, inputs: int, outputs: int, *, experts: int, active: float, bias: bool = False) -> None:
        nn.Module.__init__(self)
        self.inputs, self.outputs, self.copies, self.active = inputs, outputs, experts, active
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs)) if bias else None

    def forward(self, x: Tensor, counts: Sequence[int] = ()) -> Tensor:
        """Apply expert e to its `counts[e]` rows of x (A, in), which lie expert after expert."""
        used = [expert for expert, count in enumerate(counts) if count]
        if not used:
            return x.new_zeros(0, self.outputs)
        return grouped(x, [counts[expert] for expert in used], self.apart(used))

    def apart(self, experts: Sequence[int]) -> list[Product]:
        """Return the products of some experts, to be used within one forward.

        The stacked weights are taken apart once: their gradients are then stacked again, where one indexing per expert
        would add up as many tensors of all experts.
        """
        weights = _pick(self.weight, experts)
        biases = [None] * len(weights) if self.bias is None else _pick(self.bias, experts)
        return [partial(linear, weight=w, bias=b) for w, b in zip(weights, biases, strict=True)]

    def blank(self, kind: str) -> Linear:
        size = {"experts": self.copies, "active": self.active, "bias": self.bias is not None}
        packed: Linear = self.formats[kind](self.inputs, self.outputs, **size)
        return packed

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, {self.copies} experts, {self.active:g} active, {self.kind}"


class Int8ExpertLinear(ExpertLinear):
    """An ExpertLinear whose weights are int8 with one float scale per expert and output.

    Only the experts that have rows are unpacked, one at a time.
    """

    kind = "int8"

    def __init__(self, inputs: int, outputs: int, *, experts: int, active: float, bias: bool = False) -> None:
        nn.Module.__init__(self)
        self.inputs, self.outputs, self.copies, self.active = inputs, outputs, experts, active
        self.weight_scale: Tensor
        self.register_buffer("weight", torch.zeros(experts, outputs, inputs, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(experts, outputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs)) if bias else None

    @classmethod
    def from_linear(cls, source: ExpertLinear) -> Int8ExpertLinear:
        """Round each row to the nearest of 255 levels, symmetric around zero; the error is at most half a scale."""
        weight = source.unpacked().detach().float()
        packed = cls(
            source.inputs,
            source.outputs,
            experts=source.copies,
            active=source.active,
            bias=source.bias is not None,
        )
        scale = weight.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        packed.weight = (weight / scale[..., None]).round().clamp(-127, 127).to(torch.int8)
        packed.weight_scale = scale
        packed.bias = source.bias
        return packed

    def unpacked(self) -> Tensor:
        return self.weight.to(self.weight_scale.dtype) * self.weight_scale[..., None]

    def apart(self, experts: Sequence[int]) -> list[Product]:
        return [partial(self._product, expert) for expert in experts]

    def _product(self, expert: int, x: Tensor) -> Tensor:
        scale = self.weight_scale[expert]
        weight = self.weight[expert].to(scale.dtype) * scale[:, None]
        return linear(x, weight.to(x.dtype), None if self.bias is None else self.bias[expert])


ExpertLinear.formats = {"dense": ExpertLinear, "int8": Int8ExpertLinear}


def _pick(stacked: Tensor, experts: Sequence[int]) -> list[Tensor]:
    parts = stacked.unbind(0)
    return [parts[expert] for expert in experts]
