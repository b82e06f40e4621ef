"""What an n-gram model says about what it has not seen, one file each."""

from __future__ import annotations

from hanok.classic.smoothing.base import Smoothing
from hanok.core.registry import Registry

SMOOTHINGS: Registry[type[Smoothing]] = Registry("smoothing", __name__)
