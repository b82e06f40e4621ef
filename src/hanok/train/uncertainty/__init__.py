"""Uncertainty: how unsure a model is about a token, by which the next documents or labels are chosen."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

UNCERTAINTIES: Registry[Any] = Registry("uncertainty", __name__)
