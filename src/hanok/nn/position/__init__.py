"""Position schemes that act on queries and keys, by name."""

from typing import Any

from hanok.core.registry import Registry

POSITIONS: Registry[Any] = Registry("position", __name__)
