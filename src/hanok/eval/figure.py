"""A share with its uncertainty, and the table in which people expect to read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Accuracy:
    """Mean score of n items, its standard error, the 95 % Wilson interval, and what guessing would get."""

    task: str
    value: float
    stderr: float
    low: float
    high: float
    n: int
    chance: float

    @property
    def above_chance(self) -> bool:
        """Say whether even the lower end of the interval beats guessing."""
        return self.low > self.chance

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able data."""
        return asdict(self) | {"above_chance": self.above_chance}


def accuracy(task: str, scores: Sequence[float], chance: float) -> Accuracy:
    """Summarise scores in [0, 1]."""
    n = len(scores)
    mean = math.fsum(scores) / n
    spread = math.fsum((score - mean) ** 2 for score in scores)
    stderr = math.sqrt(spread / (n - 1) / n) if n > 1 else 0.0
    low, high = wilson(mean, n)
    return Accuracy(task, mean, stderr, low, high, n, chance)


def wilson(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval, which stays inside [0, 1] and is right at 0 and 1 too."""
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if share == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if share == 1 else min(1.0, (centre + half) / scale)
    return low, high


def table(rows: Iterable[tuple[str, str, str, float, float | None]]) -> str:
    """Return lm-eval's Markdown table; a row is (task, metric, arrow, value, stderr)."""
    head = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"]
    lines = [head]
    for task, metric, arrow, value, stderr in rows:
        error = "N/A" if stderr is None else f"{stderr:.4f}"
        lines.append([task, "1", "none", "0", metric, arrow, f"{value:.4f}", "±", error])
    width = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {1, 3, 6, 8}
    rule = [("-" * max(w - 1, 1) + ":") if i in right else "-" * max(w, 1) for i, w in enumerate(width)]

    def draw(line: Sequence[str]) -> str:
        return (
            "|"
            + "|".join(
                c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, width, strict=True))
            )
            + "|"
        )

    return "\n".join([draw(head), draw(rule), *map(draw, lines[1:])])
