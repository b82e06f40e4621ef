"""Ways to make synthetic rows, by name: one file each."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

METHODS: Registry[Any] = Registry("synthesis method", __name__)
