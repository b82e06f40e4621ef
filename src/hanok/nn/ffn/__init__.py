"""Feed-forward networks, by name."""

from typing import Any

from hanok.core.registry import Registry

FFNS: Registry[Any] = Registry("ffn", __name__)
