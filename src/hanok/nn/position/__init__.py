"""Position schemes, by name: what tells a model the order of its tokens."""

from typing import Any

from hanok.core.registry import Registry

POSITIONS: Registry[Any] = Registry("position", __name__)
