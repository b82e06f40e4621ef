"""Scores of a completion against a reference answer, for data that brings no task of ours; one file each."""

from __future__ import annotations

from collections.abc import Callable

from hanok.core.registry import Registry

Score = Callable[[str, str], float]

SCORES: Registry[Score] = Registry("score", __name__)
