"""SOAP: Adam in the eigenbasis of Shampoo's preconditioners, which turns slowly with the gradients."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hanok.nn.linear import Linear
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.base import Growths, Slot
from hanok.train.optim.each import Each, EachConfig, Held

SIDES = ("left", "right")


class SOAPConfig(EachConfig):
    """`every` so many steps the basis is turned by one power iteration and a QR; sides above `most` keep their own.

    Averages of the preconditioners forget as fast as the second moment, with betas[1].
    """

    kind: Literal["soap"] = "soap"
    lr: float = Field(3e-3, gt=0)
    betas: tuple[float, float] = (0.95, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    every: int = Field(10, ge=1)
    most: int = Field(2048, ge=1)


@OPTIMIZERS.register("soap", paper="arXiv:2409.11321")
class SOAP(Each):
    """Shampoo with Adam in the preconditioner's eigenbasis, for the matrices of products and embeddings.

        L = b2 L + (1 - b2) G G^T;  R = b2 R + (1 - b2) G^T G;  Ql, Qr their eigenvectors, refreshed now and then
        M = b1 M + (1 - b1) G;  V = b2 V + (1 - b2) (Ql^T G Qr)^2
        W = W (1 - lr wd) - lr Ql [(Ql^T M Qr) / (1 - b1^t) / (sqrt(V / (1 - b2^t)) + eps)] Qr^T

    The first gradient only makes the bases and moves nothing; other parameters get Adam. Stacked matrices: one by one.
    """

    Config = SOAPConfig
    kind = "soap"
    entrywise = False

    def __init__(self, config: SOAPConfig, model: nn.Module, growth: Growths | None = None) -> None:
        super().__init__(config, model, growth)
        self.config = config

    def fresh(self, slot: Slot) -> Held:
        held = {"momentum": self.zeros(slot), "square": self.zeros(slot)}
        for side, size in self._sides(slot).items():
            stack = (*slot.parameter.shape[:-2], size, size)
            held |= {side: self.zeros(slot, *stack), f"{side}_basis": self.zeros(slot, *stack)}
        return held

    def change(self, slot: Slot, grad: Tensor, held: Held, lr: float) -> Tensor | None:
        turned = [side for side in SIDES if side in held]
        step = self.moved(slot) - bool(turned)
        if turned and step == 0:
            self._gather(held, grad, turned)
            for side in turned:
                held[f"{side}_basis"].copy_(torch.linalg.eigh(held[side]).eigenvectors.flip(-1))
            return None
        first, second = self.config.betas
        momentum = held["momentum"].lerp_(grad, 1 - first)
        square = held["square"].lerp_(_into(held, grad).square(), 1 - second)
        update = _into(held, momentum) / (square.div(1 - second**step).sqrt_().add_(self.config.eps))
        update = _out(held, update).mul_(lr * slot.growth.by_sign / (1 - first**step))
        if turned:
            self._gather(held, grad, turned)
            if step % self.config.every == 0:
                for side in turned:
                    _turn(held, side)
        return update

    def _sides(self, slot: Slot) -> dict[str, int]:
        """Return the sides of a parameter that get a basis, with their sizes."""
        if slot.parameter.ndim < 2 or not isinstance(slot.owner, Linear | nn.Embedding):
            return {}
        sizes = dict(zip(SIDES, slot.parameter.shape[-2:], strict=True))
        return {side: size for side, size in sizes.items() if 1 < size <= self.config.most}

    def _gather(self, held: Held, grad: Tensor, sides: list[str]) -> None:
        for side in sides:
            held[side].lerp_(grad @ grad.mT if side == "left" else grad.mT @ grad, 1 - self.config.betas[1])


def _into(held: Held, x: Tensor) -> Tensor:
    """Return a matrix as the bases see it."""
    x = held["left_basis"].mT @ x if "left" in held else x
    return x @ held["right_basis"] if "right" in held else x


def _out(held: Held, x: Tensor) -> Tensor:
    """Return a matrix that the bases see as it is."""
    x = held["left_basis"] @ x if "left" in held else x
    return x @ held["right_basis"].mT if "right" in held else x


def _turn(held: Held, side: str) -> None:
    """Turn a basis towards the eigenvectors, largest first, and let the second moments follow their directions."""
    basis, average = held[f"{side}_basis"], held[side]
    sizes = (basis * (average @ basis)).sum(-2)
    order = sizes.argsort(dim=-1, descending=True, stable=True)
    square, axis = held["square"], -2 if side == "left" else -1
    index = order.unsqueeze(-1 if side == "left" else -2).expand(square.shape)
    square.copy_(square.gather(axis, index))
    ordered = basis.gather(-1, order.unsqueeze(-2).expand(basis.shape))
    basis.copy_(torch.linalg.qr(average @ ordered).Q)
