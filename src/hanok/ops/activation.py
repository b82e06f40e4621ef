"""Activation functions, by the word that configs use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "gelu_quick", "silu", "tanh"]


def relu_squared(x: Tensor) -> Tensor:
    """Return max(x, 0)^2 (So et al. 2021, arXiv 2109.08668)."""
    return F.relu(x).square()


def gelu_quick(x: Tensor) -> Tensor:
    """Return x sigmoid(1.702 x), the sigmoid approximation of GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": relu_squared,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_quick": gelu_quick,
    "silu": F.silu,
    "tanh": torch.tanh,
}
