"""What the configurations of all rewards share, and how a column is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError, suggest


class RewardConfig(PartConfig):
    """How much a reward counts in the sum."""

    weight: float = 1.0


def need(columns: Mapping[str, Sequence[Any]], name: str, reward: str) -> Sequence[Any]:
    """Return a column of the data, or say that the reward cannot do without it."""
    if name not in columns:
        raise UsageError(f"the reward {reward!r} needs the column {name!r} in the data{suggest(name, columns)}")
    return columns[name]
