"""Routers of a mixture of experts, by name."""

from typing import Any

from hanok.core.registry import Registry

ROUTERS: Registry[Any] = Registry("router", __name__)
