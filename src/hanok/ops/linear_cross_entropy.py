"""Head and cross-entropy in one: the logits of a few rows at a time, and never those of a whole batch.

Shapes: N rows (tokens), D width of a state, V vocabulary, R rows of one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.matmul import linear
from hanok.ops.numerics import elementwise

PIECE = 2**23  # logits held at a time: 32 MB in float32
FEWEST = 32  # rows of a piece: a product of fewer reads the whole matrix for too little


@dataclass(frozen=True)
class Projection:
    """What a head does to states x (N,D): logits = c tanh(s (x W^T + b) / c), without the tanh where c is None."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of states, in the precision of the product."""
        logits = linear(x, self.weight, self.bias)
        logits = logits if self.scale == 1.0 else logits * self.scale
        cap = self.softcap
        return logits if cap is None else cap * elementwise(torch.tanh, logits / cap)


@dataclass(frozen=True)
class Penalty:
    """What is added to -log p(y): `smoothing` e of the label over all tokens, and `z` times log^2 of the normaliser.

        loss = (1 - e) (-log p(y)) + e mean_v(-log p(v)) + z logsumexp(logits)^2

    (Szegedy et al. 2015, arXiv 1512.00567, section 7; Chowdhery et al. 2022, arXiv 2204.02311, section 5: z = 1e-4)
    """

    smoothing: float = 0.0
    z: float = 0.0


PLAIN = Penalty()


class Losses(NamedTuple):
    """Weighted sums over rows: the loss, of which alone there is a gradient, -log p(y), hits, log^2 of normalisers."""

    loss: Tensor
    nll: Tensor
    hits: Tensor
    square: Tensor


def cross_entropy(logits_NV: Tensor, targets: Tensor, weights: Tensor, penalty: Penalty = PLAIN) -> Losses:
    """Return the sums for logits (N,V) held whole: targets (N,) int64, weights (N,)."""
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    each = F.cross_entropy(logits_NV, targets, reduction="none", label_smoothing=penalty.smoothing)
    with torch.no_grad():
        # A maximum is found several times as fast as its place.
        chosen = logits_NV.gather(-1, targets[:, None]).squeeze(-1)
        hits = ((chosen >= logits_NV.amax(-1)) * weights).sum()
    loss = (each * weights).sum()
    nll, square = loss.detach(), torch.zeros_like(hits)
    if penalty.z or penalty.smoothing:
        norm = logits_NV.logsumexp(-1)
        squares = (norm.square() * weights).sum()
        loss = loss + penalty.z * squares if penalty.z else loss
        nll, square = ((norm.detach() - chosen) * weights).sum(), squares.detach()
    return Losses(loss, nll, hits, square)


def linear_cross_entropy(
    x_ND: Tensor,
    head: Projection,
    targets: Tensor,
    weights: Tensor,
    penalty: Penalty = PLAIN,
    *,
    rows: int | None = None,
) -> Losses:
    """Return the sums for states (N,D), holding the logits of `rows` rows at a time.

    The gradient is made piece by piece in the forward pass, while the logits are at hand, and only multiplied in the
    backward: three products in all, as in the plain form, and N V numbers less to keep. The weight's is summed in its
    own precision. (The idea is that of Hsu et al. 2024, Liger Kernel, arXiv 2410.10989, section 3.2.)
    """
    rows = max(FEWEST, PIECE // head.weight.shape[0]) if rows is None else rows
    grad = torch.is_grad_enabled()
    tensors = (x_ND, head.weight, head.bias, targets, weights)
    return Losses(*_Pieces.apply(*tensors, (head.scale, head.softcap, penalty), rows, grad))


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        x, weight, bias, targets, weights, (scale, softcap, penalty), rows, grad = inputs
        needs = [grad and need for need in ctx.needs_input_grad[:3]]
        grads = [torch.zeros_like(tensor) if need else None for tensor, need in zip(inputs, needs, strict=False)]
        # Autocast would cast the matrix anew for every piece.
        device, product = x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            product = torch.get_autocast_dtype(device)
        x, weight = x.to(product), weight.to(product)
        head = Projection(weight, None if bias is None else bias.to(product), scale, softcap)
        sums: Any = torch.zeros((), device=x.device)
        for start in range(0, max(x.shape[0], 1), rows):
            part = slice(start, start + rows)
            with torch.autocast(device, enabled=False):
                logits = head.logits(x[part]).to(torch.promote_types(product, torch.float32))
                figures, delta = _piece(logits, targets[part], weights[part], penalty)
                sums = sums + figures
                if any(needs):
                    delta = delta if softcap is None else delta.mul_(1 - (logits / softcap).square())
                    delta = (delta if scale == 1.0 else delta.mul_(scale)).to(product)
                    _add(grads, delta, x, weight, part)
        ctx.save_for_backward(*grads)
        loss, *others = sums.unbind()
        ctx.mark_non_differentiable(*others)
        return (loss, *others)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        made = [None if grad is None else grad * grads[0].to(grad.dtype) for grad in ctx.saved_tensors]
        return (*made, None, None, None, None, None)


def _piece(logits: Tensor, targets: Tensor, weights: Tensor, penalty: Penalty) -> tuple[Tensor, Tensor]:
    """Return the four sums over some rows, and d loss / d logits.

    d loss / d logits_v = w (p_v (1 + 2 z log Z) - (1 - e) [v = y] - e / V)
    """
    norm = logits.logsumexp(-1)
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
    nll, square = norm - chosen, norm.square()
    hits = (chosen >= logits.amax(-1)).to(weights.dtype)
    even = penalty.smoothing * (norm - logits.mean(-1) - nll) if penalty.smoothing else 0.0
    figures = torch.stack([nll + even + penalty.z * square, nll, hits, square])
    sums = (figures * weights).sum(-1)
    delta = (logits - norm[:, None]).exp_()
    if penalty.z:
        delta *= (1 + 2 * penalty.z * norm)[:, None]
    if penalty.smoothing:
        delta -= penalty.smoothing / logits.shape[-1]
    delta.scatter_add_(1, targets[:, None], delta.new_full((1, 1), penalty.smoothing - 1).expand(len(targets), 1))
    return sums, delta.mul_(weights.to(delta.dtype)[:, None])


def _add(grads: list[Tensor | None], delta: Tensor, x: Tensor, weight: Tensor, part: slice) -> None:
    """Add what some rows give to the gradients of the states, the matrix and the bias, as far as these are wanted."""
    of_x, of_weight, of_bias = grads
    if of_x is not None:
        of_x[part] = delta @ weight
    if of_weight is not None:
        of_weight += delta.t() @ x[part]
    if of_bias is not None:
        of_bias += delta.sum(0)
