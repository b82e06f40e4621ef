"""Optimisers: who owns which parameter, how it moves, and a state of plain tensors and JSON."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

OPTIMIZERS: Registry[Any] = Registry("optimizer", __name__)
