"""Recurrent networks over a chunk of tokens whose input products are already made: Elman, LSTM, GRU.

Shape legend: B batch, T tokens, W the state's width, G gates. `pre` (B,T,G*W) holds the products of the inputs with
their biases, `weight` (G*W,W) the recurrent matrix; gates lie in the order of `torch.nn`. The fast forms keep what
their hand-written gradients need and nothing else: in each, a step backward is one matrix product and a few products
of whole tensors that were made for all steps at once.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hanok.ops.dual import dual
from hanok.ops.matmul import linear
from hanok.ops.numerics import elementwise

Activation = Literal["tanh", "relu"]


def elman(pre_BTW: Tensor, h_BW: Tensor, weight_WW: Tensor, activation: Activation = "tanh") -> Tensor:
    """Return all h_t = f(pre_t + U h_(t-1)) (B,T,W); Elman 1990, "Finding structure in time"."""

    def fast(pre: Tensor, h: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return (_Elman.apply(pre, h, weight, activation),)

    def exact(pre: Tensor, h: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return (elman_reference(pre, h, weight, activation),)

    return dual(fast, exact, pre_BTW, h_BW, weight_WW)[0]


def elman_reference(pre_BTW: Tensor, h_BW: Tensor, weight_WW: Tensor, activation: Activation) -> Tensor:
    """Spell `elman` out, token after token; cutting the chunk or adding rows changes no bit in exact numerics."""
    hs = []
    for pre in pre_BTW.unbind(1):
        z = pre + linear(h_BW, weight_WW)
        h_BW = elementwise(torch.tanh, z) if activation == "tanh" else z.relu()
        hs.append(h_BW)
    return torch.stack(hs, 1)


def lstm(pre_BTG: Tensor, h_BW: Tensor, c_BW: Tensor, weight_GW: Tensor) -> tuple[Tensor, Tensor]:
    """Return all h_t (B,T,W) and the last c.

    i, f, o = sigmoid, g = tanh of pre_t + U h_(t-1); c_t = f c_(t-1) + i g; h_t = o tanh(c_t)
    (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000). Gates lie as i, f, g, o.
    """
    hs, c = dual(_Lstm.apply, lstm_reference, pre_BTG, h_BW, c_BW, weight_GW)
    return hs, c


def lstm_reference(pre_BTG: Tensor, h_BW: Tensor, c_BW: Tensor, weight_GW: Tensor) -> tuple[Tensor, Tensor]:
    """Spell `lstm` out, token after token."""
    hs = []
    for pre in pre_BTG.unbind(1):
        i, f, g, o = (pre + linear(h_BW, weight_GW)).chunk(4, -1)
        i, f, o = (elementwise(torch.sigmoid, gate) for gate in (i, f, o))
        c_BW = f * c_BW + i * elementwise(torch.tanh, g)
        h_BW = o * elementwise(torch.tanh, c_BW)
        hs.append(h_BW)
    return torch.stack(hs, 1), c_BW


def gru(pre_BTG: Tensor, h_BW: Tensor, weight_GW: Tensor, bias_W: Tensor) -> Tensor:
    """Return all h_t (B,T,W).

    r, z = sigmoid of pre_t + U h_(t-1); n = tanh(pre_t + r (U h_(t-1) + b)); h_t = (1 - z) n + z h_(t-1)
    (Cho et al. 2014, arXiv 1406.1078, in the form that cuDNN computes). Gates lie as r, z, n.
    """

    def fast(*inputs: Tensor) -> tuple[Tensor, ...]:
        return (_Gru.apply(*inputs),)

    def exact(*inputs: Tensor) -> tuple[Tensor, ...]:
        return (gru_reference(*inputs),)

    return dual(fast, exact, pre_BTG, h_BW, weight_GW, bias_W)[0]


def gru_reference(pre_BTG: Tensor, h_BW: Tensor, weight_GW: Tensor, bias_W: Tensor) -> Tensor:
    """Spell `gru` out, token after token."""
    hs = []
    width = h_BW.shape[-1]
    for pre in pre_BTG.unbind(1):
        product = linear(h_BW, weight_GW)
        r, z = elementwise(torch.sigmoid, pre[:, : 2 * width] + product[:, : 2 * width]).chunk(2, -1)
        n = elementwise(torch.tanh, pre[:, 2 * width :] + r * (product[:, 2 * width :] + bias_W))
        h_BW = n + z * (h_BW - n)
        hs.append(h_BW)
    return torch.stack(hs, 1)


def _steps(x_BTD: Tensor) -> Tensor:
    """Return (T,B,D), contiguous: a step's slice is one piece of memory."""
    return x_BTD.transpose(0, 1).contiguous()


def _unbound(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the steps' slices of several tensors side by side."""
    return list(zip(*(x.unbind() for x in tensors), strict=True))


def _before(hs_TBW: Tensor, start: Tensor) -> Tensor:
    """Return what each step started from."""
    return torch.cat((start.unsqueeze(0), hs_TBW[:-1]))


def _weight_grad(dz_TBG: Tensor, before_TBW: Tensor) -> Tensor:
    return dz_TBG.flatten(0, 1).t() @ before_TBW.flatten(0, 1)


class _Elman(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, start: Tensor, weight: Tensor, activation: Activation) -> Tensor:
        f = torch.tanh_ if activation == "tanh" else torch.relu_
        pre, turned, h = _steps(pre), weight.t(), start
        hs = torch.empty_like(pre)
        for z, out in _unbound(pre, hs):
            h = f(torch.addmm(z, h, turned, out=out))
        ctx.activation = activation
        ctx.save_for_backward(hs, start, weight)
        return hs.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hs, start, weight = ctx.saved_tensors
        slope = 1 - hs * hs if ctx.activation == "tanh" else (hs > 0).to(hs.dtype)
        dz = torch.empty_like(hs)
        dh = torch.zeros_like(start)
        for dy, s, out in reversed(_unbound(grads[0].transpose(0, 1), slope, dz)):
            torch.mul(dh.add_(dy), s, out=out)
            dh = out @ weight
        return dz.transpose(0, 1), dh, _weight_grad(dz, _before(hs, start)), None


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        pre, turned, start = _steps(pre), weight.t(), (h, c)
        gates = torch.empty_like(pre)
        hs, cs, ts = (pre.new_empty(*pre.shape[:2], h.shape[-1]) for _ in range(3))
        i, f, g, o = gates.chunk(4, -1)
        i_f = gates[..., : 2 * h.shape[-1]]
        for t, (z, gate, c_t) in enumerate(_unbound(pre, gates, cs)):
            torch.addmm(z, h, turned, out=gate)
            i_f[t].sigmoid_()
            c = torch.addcmul(torch.mul(i[t], g[t].tanh_(), out=c_t), f[t], c, out=c_t)
            h = torch.mul(o[t].sigmoid_(), torch.tanh(c, out=ts[t]), out=hs[t])
        ctx.save_for_backward(gates, hs, cs, ts, weight, *start)
        return hs.transpose(0, 1), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        gates, hs, cs, ts, weight, h, c = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, -1)
        # A step's gradients of the four sums are these factors times dc (i, f, g) or dh (o): made for all steps at
        # once, multiplied in place. dc gathers dh times `through`.
        dz = torch.empty_like(gates)
        dz_i, dz_f, dz_g, dz_o = dz.chunk(4, -1)
        torch.mul(g * i, 1 - i, out=dz_i)
        torch.mul(_before(cs, c) * f, 1 - f, out=dz_f)
        torch.mul(i, 1 - g * g, out=dz_g)
        torch.mul(ts * o, 1 - o, out=dz_o)
        through = o * (1 - ts * ts)
        by_c = dz.unflatten(-1, (4, -1))[:, :, :3]
        dh, dc = torch.zeros_like(h), grads[1].clone()
        steps = _unbound(grads[0].transpose(0, 1), dz, by_c, dz_o, through, f)
        for dy, out, out_c, out_h, k, f_t in reversed(steps):
            dh.add_(dy)
            dc.addcmul_(dh, k)
            out_c.mul_(dc.unsqueeze(1))
            out_h.mul_(dh)
            dc.mul_(f_t)
            dh = out @ weight
        return dz.transpose(0, 1), dh, dc, _weight_grad(dz, _before(hs, h))


class _Gru(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        pre, turned, start, rest = _steps(pre), weight.t(), h, 2 * h.shape[-1]
        gates, products = torch.empty_like(pre), torch.empty_like(pre)
        hs = pre.new_empty(*pre.shape[:2], h.shape[-1])
        bias = torch.cat((bias.new_zeros(rest), bias))
        r, z, _ = gates.chunk(3, -1)
        parts = [part for x in (pre, products, gates) for part in (x[..., :rest], x[..., rest:])]
        for t, (x_rz, x_n, u_rz, u_n, rz, n) in enumerate(_unbound(*parts)):
            torch.addmm(bias, h, turned, out=products[t])
            torch.add(x_rz, u_rz, out=rz).sigmoid_()
            torch.addcmul(x_n, r[t], u_n, out=n).tanh_()
            h = torch.lerp(n, h, z[t], out=hs[t])
        ctx.save_for_backward(gates, products[..., rest:].contiguous(), hs, weight, start)
        return hs.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        gates, product, hs, weight, start = ctx.saved_tensors
        r, z, n = gates.chunk(3, -1)
        before = _before(hs, start)
        # A step's gradients are these factors times dh: of r and z, and of U h + b inside its product with r.
        of_n = (1 - z) * (1 - n * n)
        dz = torch.empty_like(gates)
        dz_r, dz_z, dz_n = dz.chunk(3, -1)
        torch.mul(of_n, r, out=dz_n)
        torch.mul(dz_n * product, 1 - r, out=dz_r)
        torch.mul((before - n) * z, 1 - z, out=dz_z)
        dhs, dh = torch.empty_like(hs), torch.zeros_like(start)
        steps = _unbound(grads[0].transpose(0, 1), z, dz, dz.unflatten(-1, (3, -1)), dhs)
        for dy, z_t, flat, out, kept in reversed(steps):
            torch.add(dh, dy, out=kept)
            out.mul_(kept.unsqueeze(1))
            dh = torch.addmm(kept * z_t, flat, weight)
        d_bias, d_weight = dz_n.sum((0, 1)), _weight_grad(dz, before)
        torch.mul(dhs, of_n, out=dz_n)  # the inputs' part of n stands outside the product with r
        return dz.transpose(0, 1), dh, d_weight, d_bias
