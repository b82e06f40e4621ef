"""Parts that look at what an encoder has read, by name."""

from typing import Any

from hanok.core.registry import Registry

CROSSES: Registry[Any] = Registry("cross", __name__)
