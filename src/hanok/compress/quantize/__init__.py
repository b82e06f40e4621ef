"""Quantisers, one file each: what a Linear is packed into. The packed formats themselves live in `nn.linear`."""

from __future__ import annotations

from typing import Any, Protocol

from hanok.core.registry import Registry
from hanok.nn.linear import Linear


class Quantizer(Protocol):
    """Turns one Linear into a packed one; its class carries the nested `Config` that it is built from."""

    def pack(self, linear: Linear) -> Linear:
        """Return the packed twin; the given module stays as it is."""
        ...


QUANTIZERS: Registry[Any] = Registry("quantizer", __name__)
