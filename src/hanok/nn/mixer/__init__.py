"""Token mixers: everything that lets one token learn of another, by name."""

from typing import Any

from hanok.core.registry import Registry

MIXERS: Registry[Any] = Registry("mixer", __name__)
