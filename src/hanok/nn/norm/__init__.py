"""Normalisations, by name."""

from typing import Any

from hanok.core.registry import Registry

NORMS: Registry[Any] = Registry("norm", __name__)
