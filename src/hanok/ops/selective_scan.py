"""The selective scan of Mamba: a linear recurrence whose decay, input and output depend on the token.

Shapes: B batch, T tokens, D channels in G groups of R (one group shares the input and output vectors), N numbers of
state per channel. A state is (B,G,N,R).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hanok.ops.numerics import current, elementwise

SLAB = 1 << 18  # numbers per temporary: a chunk of time steps stays in the processor's cache


def selective_scan(
    x_BTD: Tensor, dt_BTD: Tensor, A_DN: Tensor, b_BTGN: Tensor, c_BTGN: Tensor, h_BGNR: Tensor
) -> tuple[Tensor, Tensor]:
    """Return y (B,T,D) with y_t = <c_t, h_t>, h_t = exp(dt_t A) h_(t-1) + dt_t b_t x_t, and the last h.

    Gu and Dao 2023, arXiv 2312.00752, algorithm 2 (zero-order hold for A, Euler for b). A (D,1) decays all numbers of
    a channel alike. Time is walked in chunks: states between them are kept, those inside are computed again for the
    gradient, so memory grows with T / chunk states. In exact numerics every step is one product and one sum.
    """
    groups = b_BTGN.shape[2]
    x, dt = (t.transpose(0, 1).unflatten(2, (groups, -1)).contiguous() for t in (x_BTD, dt_BTD))
    A_GNR = A_DN.unflatten(0, (groups, -1)).transpose(1, 2).contiguous()
    b, c = (t.transpose(0, 1).contiguous() for t in (b_BTGN, c_BTGN))
    y, h = _Scan.apply(x, dt, A_GNR, b, c, h_BGNR)
    return y.flatten(2).transpose(0, 1), h


def selective_scan_reference(
    x_BTD: Tensor, dt_BTD: Tensor, A_DN: Tensor, b_BTGN: Tensor, c_BTGN: Tensor, h_BGNR: Tensor
) -> tuple[Tensor, Tensor]:
    """Spell the recurrence out, one token after the other."""
    repeat = x_BTD.shape[2] // b_BTGN.shape[2]
    h_BDN = h_BGNR.transpose(2, 3).flatten(1, 2)
    ys = []
    for t in range(x_BTD.shape[1]):
        dt = dt_BTD[:, t, :, None]
        b, c = (v[:, t].repeat_interleave(repeat, 1) for v in (b_BTGN, c_BTGN))
        h_BDN = torch.exp(dt * A_DN) * h_BDN + dt * b * x_BTD[:, t, :, None]
        ys.append((h_BDN * c).sum(-1))
    return torch.stack(ys, 1), h_BDN.unflatten(1, (-1, repeat)).transpose(2, 3)


class _Scan(torch.autograd.Function):
    """Time first: x, dt (T,B,G,R), A (G,N,R), b, c (T,B,G,N); chunks of L steps are (L,B,G,N,R)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        x, dt, A, b, c, h = inputs
        y, starts = torch.empty_like(x), []
        exact = current() == "exact"
        ctx.chunk = min(len(x), max(1, SLAB // h.numel()))
        room = _room(ctx.chunk, h, A)
        for at in _chunks(len(x), ctx.chunk):
            starts.append(h)
            decay, hs = _drive((x[at], dt[at], A, b[at]), room)
            _walk(decay, hs, h, exact)
            y[at] = fold(hs * c[at].unsqueeze(-1)) if exact else _read(c[at], hs)
            h = hs[-1].clone()
        ctx.save_for_backward(x, dt, A, b, c, torch.stack(starts))
        return y, h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, dt, A, b, c, starts = ctx.saved_tensors
        dy, dh = grads
        dx, ddt, dA, db, dc = (torch.zeros_like(t) for t in (x, dt, A, b, c))
        room, place = _room(ctx.chunk, dh, A), dh.new_empty(ctx.chunk, *dh.shape)
        for i, at in reversed(list(enumerate(_chunks(len(x), ctx.chunk)))):
            decay, hs = _drive((x[at], dt[at], A, b[at]), room)
            _walk(decay, hs, starts[i], exact=False)
            g = torch.mul(c[at].unsqueeze(-1), dy[at].unsqueeze(-2), out=place[: len(hs)])
            g[-1] += dh
            for after, g_after, g_t in zip(
                reversed(decay[1:].unbind()), reversed(g[1:].unbind()), reversed(g[:-1].unbind()), strict=True
            ):
                g_t.addcmul_(after, g_after)
            dh = decay[0] * g[0]
            dc[at] = _over_channels(hs, dy[at])
            db[at] = _over_channels(g, dt[at] * x[at])
            du = _read(b[at], g)
            dx[at] = du * dt[at]
            # d log decay_t = g_t decay_t h_(t-1), spread over dt and A
            g *= decay
            g[1:] *= hs[:-1]
            g[0] *= starts[i]
            ddt[at] = torch.addcmul(torch.mul(g, A, out=hs).sum(-2), du, x[at])
            g *= dt[at].unsqueeze(-2)
            dA += g.sum((0, 1)).sum_to_size(A.shape)
        return dx, ddt, dA, db, dc, dh


def _chunks(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _room(chunk: int, h: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of a chunk's decays and states: fresh memory for each would cost as much as filling it."""
    return h.new_empty(chunk, *h.shape[:2], *A.shape[1:]), h.new_empty(chunk, *h.shape)


def _drive(inputs: tuple[Tensor, Tensor, Tensor, Tensor], room: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return decays and inputs of every step of a chunk; the decays are (L,B,G,1,R) where A has one row."""
    x, dt, A, b = inputs
    decay, hs = (place[: len(x)] for place in room)
    torch.mul(dt.unsqueeze(-2), A, out=decay)
    torch.mul(b.unsqueeze(-1), (dt * x).unsqueeze(-2), out=hs)
    return elementwise(torch.exp_, decay), hs


def _walk(decay: Tensor, hs: Tensor, h: Tensor, exact: bool) -> None:
    """Turn the inputs of a chunk into its states, in place."""
    for decay_t, h_t in zip(decay.unbind(), hs.unbind(), strict=True):
        if exact:
            h_t += decay_t * h
        else:
            h_t.addcmul_(decay_t, h)
        h = h_t


def _read(v_LBGN: Tensor, hs: Tensor) -> Tensor:
    """Return <v, h> of every channel as (L,B,G,R)."""
    return torch.matmul(v_LBGN.unsqueeze(-2), hs).squeeze(-2)


def _over_channels(hs: Tensor, v_LBGR: Tensor) -> Tensor:
    """Return <h, v> of every number of state as (L,B,G,N)."""
    return torch.matmul(hs, v_LBGR.unsqueeze(-1)).squeeze(-1)


def fold(terms: Tensor) -> Tensor:
    """Sum over the last but one dimension by halves: an order that depends on its size alone."""
    while (size := terms.shape[-2]) > 1:
        half = size // 2
        folded = terms[..., :half, :] + terms[..., half : 2 * half, :]
        terms = torch.cat((folded, terms[..., 2 * half :, :]), -2) if size % 2 else folded
    return terms.squeeze(-2)
