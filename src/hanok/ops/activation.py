"""Activations by word, each computed so that exact numerics hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.gradient import with_gradient
from hanok.ops.native.rows import exact_rows_ready, native_swish_gate, rows_ready
from hanok.ops.numerics import current, elementwise

Activation = Literal["relu", "relu2", "silu", "gelu", "gelu_tanh", "gelu_quick"]


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021, Primer, arXiv 2109.08668)."""
    return F.relu(x).square()


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return elementwise(F.silu, x)


def silu_gate(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) up, the gate of SwiGLU; in one call for a few rows without a gradient, and in exact numerics."""
    library = None
    if gate.shape == up.shape and current() == "exact":
        library = exact_rows_ready(gate, up)
    elif gate.shape == up.shape and not torch.is_grad_enabled():
        library = rows_ready(gate, up)
    if library is None:
        return silu(gate) * up
    return with_gradient(partial(native_swish_gate, library), lambda g, u: F.silu(g) * u, gate, up)


def gelu(x: Tensor) -> Tensor:
    """x Phi(x) with the normal distribution function Phi (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    return elementwise(F.gelu, x)


def gelu_tanh(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the approximation of GPT-2, BERT's first code and Gemma."""
    return elementwise(lambda values: F.gelu(values, approximate="tanh"), x)


def gelu_quick(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), the approximation of CLIP."""
    return x * elementwise(torch.sigmoid, 1.702 * x)


def tanh(x: Tensor) -> Tensor:
    """tanh x, as in BERT's pooler and some heads."""
    return elementwise(torch.tanh, x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": relu2,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_quick": gelu_quick,
    "tanh": tanh,
}
