"""Trackers: where a run's figures go besides metrics.jsonl, each by its own extra."""

from __future__ import annotations

from hanok.core.registry import Registry
from hanok.train.hook.track.base import Tracker

TRACKERS: Registry[type[Tracker]] = Registry("tracker", __name__)
