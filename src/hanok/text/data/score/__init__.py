"""Scores: one number per document, low for what a curriculum shows first."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

SCORES: Registry[Any] = Registry("score", __name__)
