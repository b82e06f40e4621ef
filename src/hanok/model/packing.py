"""A model's weights in another format, for the program that runs it: the same Model, its linears swapped."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from hanok.core.errors import UsageError, suggest
from hanok.nn.linear import Linear, swap

Weights = Literal["fp32", "bf16", "int8", "int4"]
KINDS = get_args(Weights)


def check_weights(kind: str) -> str:
    """Return the format's name, or say which ones there are."""
    if kind not in KINDS:
        raise UsageError(f"unknown weights {kind!r}{suggest(kind, KINDS)} (known: {', '.join(KINDS)})")
    return kind


def pack_weights(model: nn.Module, kind: str) -> None:
    """Swap every linear whose weight is still plain into a format, in place and one at a time; fp32 changes nothing.

    Embeddings are looked up, not multiplied, and stay; a head that shares their matrix gets a packed one of its own.
    Experts, for which there is no int4, are stored as int8, and stay as they are for bf16.
    """
    if check_weights(kind) == "fp32":
        return
    linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    for name, module in linears.items():
        wanted = "int8" if kind == "int4" and kind not in module.formats else kind
        if module.kind == "dense" and wanted in module.formats:
            swap(model, name, module.pack(wanted))
