"""Products in 8-bit floating point: each operand scaled into the format's range, sums in float32.

Shapes: M and N rows of the operands, K what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.matmul import linear

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2  # 448 and 3 bits after the point; 57344 and 2 (arXiv 2209.05433)
GRAIN = 16  # hardware takes lengths that are multiples of it
Granularity = Literal["tensor", "row"]
Role = Literal["input", "weight", "gradient"]
ROLES: tuple[Role, ...] = ("input", "weight", "gradient")


def quantised(x: Tensor, dtype: torch.dtype, amax: Tensor) -> tuple[Tensor, Tensor]:
    """Return q and s with x ~ q s, where s = amax / (largest number of the format) and q is rounded to nearest even.

    What lies beyond amax becomes the largest number. Where amax is not finite nothing is: an overflow must be seen.
    """
    largest = torch.finfo(dtype).max
    scale = torch.where(amax.isfinite(), amax.float().clamp_min(torch.finfo(torch.float32).tiny) / largest, torch.nan)
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale


def largest(x_MK: Tensor, granularity: Granularity) -> Tensor:
    """Return max |x| of the whole tensor (), or of each row (M,1)."""
    return x_MK.detach().abs().amax() if granularity == "tensor" else x_MK.detach().abs().amax(-1, keepdim=True)


def emulated(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], dtype: torch.dtype) -> Tensor:
    """Return a b^T (M,N) of quantised a (M,K) and b (N,K): products of 8-bit numbers are exact in float32."""
    (q_MK, s_M), (q_NK, s_N) = a, b
    return ((q_MK.float() @ q_NK.float().t()) * s_M * s_N.t()).to(dtype)


def native(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], dtype: torch.dtype) -> Tensor:
    """Return the same by `torch._scaled_mm`, which runs on 8-bit units where there are any."""
    (q_MK, s_M), (q_NK, s_N) = a, b
    short = -q_MK.shape[1] % GRAIN
    if short:  # zeros add nothing
        q_MK, q_NK = (F.pad(q.view(torch.uint8), (0, short)).view(q.dtype) for q in (q_MK, q_NK))
    # Row scales are taken with bfloat16 results alone.
    wanted = dtype if s_M.ndim == 0 or dtype == torch.bfloat16 else torch.bfloat16
    out: Tensor = torch._scaled_mm(
        q_MK.contiguous(), q_NK.contiguous().t(), scale_a=s_M, scale_b=s_N.t(), out_dtype=wanted
    )
    return out.to(dtype)


def has_units(device: torch.device) -> bool:
    """Return whether the device multiplies 8-bit floating-point matrices itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


@dataclass
class Float8:
    """The three products of a Linear in 8 bits: e4m3 for inputs and weights, e5m2 for gradients.

        y = q(x) q(W)^T        dx = q(g) q(W^T)^T        dW = q(g^T) q(x^T)^T

    Each operand has one scale, or one for each of its rows (along what is summed over: what is transposed is quantised
    anew). With a `history` the scale of a step comes from the largest numbers of as many steps before ("delayed"),
    otherwise from the operand itself. Where no gradient is wanted the product is left as it is.
    """

    granularity: Granularity = "tensor"
    history: int = 0
    real: bool = False
    past: dict[Role, Tensor] = field(default_factory=dict)
    seen: dict[Role, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T + b."""
        if not torch.is_grad_enabled():
            return linear(x, weight, bias)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        rows: Tensor = _Product.apply(x.reshape(-1, x.shape[-1]).to(dtype), weight, self)
        y = rows.view(*x.shape[:-1], weight.shape[0])
        return y if bias is None else y + bias.to(dtype)

    def multiply(self, a: tuple[Role, Tensor], b: tuple[Role, Tensor], dtype: torch.dtype) -> Tensor:
        """Return a b^T of a (M,K) and b (N,K)."""
        return (native if self.real else emulated)(self._quantised(*a), self._quantised(*b), dtype)

    def roll(self, *, keep: bool) -> None:
        """End a step: let what it saw into the history, or (a step that was refused) forget it."""
        for role, amax in self.seen.items():
            if keep:
                past = self.past.get(role, amax.new_zeros(self.history))
                self.past[role] = torch.cat((amax.view(1), past[:-1]))
        self.seen = {}

    def _quantised(self, role: Role, x: Tensor) -> tuple[Tensor, Tensor]:
        dtype = E5M2 if role == "gradient" else E4M3
        amax = largest(x, self.granularity).float()
        if not self.history:
            return quantised(x, dtype, amax)
        self.seen[role] = torch.maximum(self.seen[role], amax) if role in self.seen else amax
        if role in self.past:
            before = self.past[role].amax()
            amax = torch.where((before > 0) & amax.isfinite(), before, amax)
        return quantised(x, dtype, amax)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, weight_NK: Tensor, how: Float8) -> Tensor:
        ctx.how = how
        ctx.save_for_backward(x_MK, weight_NK)
        return how.multiply(("input", x_MK), ("weight", weight_NK), x_MK.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_MK, weight_NK = ctx.saved_tensors
        how: Float8 = ctx.how
        grad, to_x, to_weight = grads[0], ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        of_x = how.multiply(("gradient", grad), ("weight", weight_NK.t()), x_MK.dtype) if to_x else None
        of_weight = how.multiply(("gradient", grad.t()), ("input", x_MK.t()), weight_NK.dtype) if to_weight else None
        return of_x, of_weight, None
