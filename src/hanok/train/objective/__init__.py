"""Objectives: what a batch asks of a policy, each a small pure function `(policy, batch) -> (loss, metrics)`."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

OBJECTIVES: Registry[Any] = Registry("objective", __name__)
