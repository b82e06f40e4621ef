"""Muon: orthogonalised momentum for the matrices inside the network, AdamW for everything else."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.core.device import native_bfloat16
from hanok.nn.linear import Linear
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.optim.base import (
    Growths,
    Optimizer,
    Slot,
    check_cover,
    laid_like,
    matches,
    slots,
    take,
    whole,
)

# Quintic with the steepest slope at zero: five rounds bring singular values from anywhere above 1e-3 into about
# [0.7, 1.2] (Keller Jordan, https://kellerjordan.github.io/posts/muon/).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
TINY = 1e-7


class MuonConfig(PartConfig):
    """Rates of both halves; weights of `Linear` modules are Muon's unless their names fit `adamw_names`.

    `scale` says how a step depends on the shape of W (rows, columns): "spectral" is sqrt(max(1, rows / columns)),
    "rms" is 0.2 sqrt(max(rows, columns)), which lets AdamW's learning rates be reused (arXiv:2502.16982).
    `precision` "auto" multiplies in bfloat16 where the device has it, as the original does, else in float32.
    """

    kind: Literal["muon"] = "muon"
    lr: float = Field(0.02, gt=0)
    momentum: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    rounds: int = Field(5, ge=1, le=20)
    scale: Literal["spectral", "rms"] = "spectral"
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    adamw_names: tuple[str, ...] = ("head.*",)
    adamw: AdamWConfig = AdamWConfig(lr=8e-3, weight_decay=0.0)


@OPTIMIZERS.register("muon", paper="arXiv:2502.16982")
class Muon(Optimizer):
    """Orthogonalised Nesterov momentum for matrices, and AdamW for embeddings, head, norms and biases.

        M = mu M + (1 - mu) G;  U = NewtonSchulz((1 - mu) G + mu M);  W = W (1 - lr wd) - lr scale U

    Matrices of one shape are orthogonalised together, in batched products; the tall ones lie down first. Where weights
    are divided over processes, each of these gathers the gradients and holds every momentum whole.
    """

    Config = MuonConfig

    def __init__(self, config: MuonConfig, model: nn.Module, growth: Growths | None = None) -> None:
        self.config, self.lr = config, config.lr
        ours, rest = _divide(slots(model, growth), model, config.adamw_names)
        self._rest = AdamW(config.adamw, model, only=rest) if rest else None
        self._stacks: list[_Stack] = []
        by_shape: dict[tuple[int, int], list[Slot]] = defaultdict(list)
        for slot in ours:
            rows, columns = slot.parameter.shape
            by_shape[min(rows, columns), max(rows, columns)].append(slot)
        for members in by_shape.values():
            self._stacks.append(_Stack(members, config))
        self.parameters = [slot.parameter for slot in (*ours, *rest)]
        check_cover(model, (s.parameter for stack in self._stacks for s in stack.slots), (s.parameter for s in rest))

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move every parameter."""
        for stack in self._stacks:
            stack.step(self.lr * factor)
        if self._rest is not None:
            self._rest.step(factor)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the momentum of each matrix, and AdamW's state."""
        tensors, _ = self._rest.state() if self._rest is not None else ({}, {})
        for stack in self._stacks:
            tensors |= stack.state()
        return tensors, {"kind": "muon"}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state."""
        if self._rest is not None:
            self._rest.restore(tensors, data)
        for stack in self._stacks:
            stack.restore(tensors)


class _Stack:
    """Matrices of one shape, up to transposition, with one momentum tensor (n, short, long)."""

    def __init__(self, members: list[Slot], config: MuonConfig) -> None:
        self.slots, self.config = members, config
        first = members[0].parameter
        short, long = sorted(first.shape)
        self.momentum = torch.zeros(len(members), short, long, dtype=torch.float32, device=first.device)
        fast = config.precision == "bfloat16" or (config.precision == "auto" and native_bfloat16(first.device.type))
        self.dtype = torch.bfloat16 if fast else torch.float32

    def step(self, lr: float) -> None:
        grads = torch.stack([_lying(slot, whole(_grad(slot))) for slot in self.slots]).float()
        self.momentum.lerp_(grads, 1 - self.config.momentum)
        update = grads.lerp_(self.momentum, self.config.momentum)
        ortho = orthogonalise(update, self.config.rounds, self.dtype)
        weights = [slot.parameter for slot in self.slots]
        if self.config.weight_decay:
            for weight in weights:
                weight.mul_(1 - lr * self.config.weight_decay)
        for slot, part in zip(self.slots, ortho, strict=True):
            move = laid_like(_lying(slot, part).contiguous(), slot.parameter)
            slot.parameter.add_(move, alpha=-lr * self._scale(slot))

    def state(self) -> dict[str, Tensor]:
        pairs = zip(self.slots, self.momentum, strict=True)
        return {f"{slot.name}.momentum": _lying(slot, part).contiguous() for slot, part in pairs}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for slot, part in zip(self.slots, self.momentum, strict=True):
            if f"{slot.name}.momentum" in tensors:
                saved = take(tensors, f"{slot.name}.momentum", _lying(slot, part))
                part.copy_(_lying(slot, saved))
            else:
                part.zero_()

    def _scale(self, slot: Slot) -> float:
        """Return the step's spectral norm; a matrix that has grown gets its old one times sqrt(outputs / inputs).

        That keeps what the step does to activations of a fixed size per entry (arXiv:2310.17813).
        """
        grown = slot.growth
        rows, columns = slot.parameter.shape[0] / grown.outputs, slot.parameter.shape[1] / grown.inputs
        wide = math.sqrt(grown.outputs / grown.inputs) * grown.pace
        if self.config.scale == "rms":
            return 0.2 * math.sqrt(max(rows, columns)) * wide
        return math.sqrt(max(1.0, rows / columns)) * wide


def orthogonalise(matrices: Tensor, rounds: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the matrices (n, short, long) with all singular values near 1: X <- aX + (bA + cA^2) X, A = X X^T."""
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(TINY)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def _divide(all_slots: list[Slot], model: nn.Module, adamw_names: tuple[str, ...]) -> tuple[list[Slot], list[Slot]]:
    """Part the parameters by structure: the weights of `Linear` modules, and everything else."""
    ours: list[Slot] = []
    rest: list[Slot] = []
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for slot in all_slots:
        matrix = isinstance(slot.owner, Linear) and slot.parameter.ndim == 2 and id(slot.parameter) not in embedded
        (ours if matrix and not matches(slot.name, adamw_names) else rest).append(slot)
    return ours, rest


def _grad(slot: Slot) -> Tensor:
    """Return the gradient; a matrix that no token reached (an idle expert) has a gradient of zero."""
    grad = slot.parameter.grad
    return torch.zeros_like(slot.parameter) if grad is None else grad


def _lying(slot: Slot, tensor: Tensor) -> Tensor:
    """Transpose between a weight's own orientation and the lying one; its own inverse."""
    rows, columns = slot.parameter.shape
    return tensor.mT if rows > columns else tensor
