"""Two forms of one function: the fast one, and one whose bits are fixed and whose gradient is the fast one's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hanok.ops.numerics import current

Form = Callable[..., tuple[Tensor, ...]]


def dual(fast: Form, exact: Form, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return fast(*inputs), or in exact numerics exact(*inputs).

    Both are functions of the inputs alone. The exact form keeps nothing for its gradient, of which no promise about
    bits is made: the fast form is computed again and its gradient taken.
    """
    if current() == "fast":
        return fast(*inputs)
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in inputs)):
        return exact(*inputs)
    out: tuple[Tensor, ...] = _Dual.apply(fast, exact, *inputs)
    return out


class _Dual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fast: Form, exact: Form, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.fast = fast
        ctx.save_for_backward(*inputs)
        return exact(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        inputs = [x.detach().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
        with torch.enable_grad():
            outputs = ctx.fast(*inputs)
        pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if y.requires_grad]
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True))
        return None, None, *(next(found) if need else None for need in needed)
