"""Models before the network: what a neural model has to beat."""

from __future__ import annotations

from hanok.core.registry import Registry

CLASSICS: Registry[type] = Registry("classic model", __name__)
