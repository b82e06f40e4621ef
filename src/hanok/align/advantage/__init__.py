"""Advantages: how much better a completion was than the others of its group."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

ADVANTAGES: Registry[Any] = Registry("advantage", __name__)
