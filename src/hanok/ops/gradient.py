"""A value computed one way, with the gradient of the formula that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Formula = Callable[..., Tensor]


def with_gradient(value: Formula, formula: Formula, *given: Tensor | None) -> Tensor:
    """Return value(*given), whose gradient is that of formula(*given), computed again where it is asked for."""
    if not torch.is_grad_enabled():
        return value(*given)
    out: Tensor = _WithGradient.apply(value, formula, *given)
    return out


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Formula, formula: Formula, *given: Tensor | None) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(*given)
        return value(*given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = [None if x is None else x.detach().requires_grad_() for x in ctx.saved_tensors]
        inputs = [x for x in given if x is not None]
        with torch.enable_grad():
            found = iter(torch.autograd.grad(ctx.formula(*given), inputs, grads[0]))
        return None, None, *(None if x is None else next(found) for x in given)
