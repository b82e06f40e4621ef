"""Schedules: the factor on every learning rate as a pure function of the step."""

from __future__ import annotations

from typing import Any

from hanok.core.registry import Registry

SCHEDULES: Registry[Any] = Registry("schedule", __name__)
