"""The measurements that a scaling law is fitted to."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError, suggest

Floats = npt.NDArray[np.float64]
COLUMNS = ("params", "tokens", "loss")


@dataclass(frozen=True)
class Runs:
    """Finished runs: parameters N, training tokens D and validation loss in nats, each of shape (n,)."""

    params: Floats
    tokens: Floats
    loss: Floats

    def __post_init__(self) -> None:
        for name in COLUMNS:
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or values.shape != np.shape(self.params):
                raise UsageError(f"runs: {name} must be a list as long as params")
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if bad.size:
                raise UsageError(f"runs: {name} of row {bad[0] + 1} is {values[bad[0]]}, but must be a positive number")
            object.__setattr__(self, name, values)

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float, float]]) -> Runs:
        """Build from (params, tokens, loss) triples."""
        table = np.array(list(rows), dtype=np.float64).reshape(-1, 3)
        return cls(table[:, 0], table[:, 1], table[:, 2])

    @classmethod
    def from_csv(cls, path: str | Path) -> Runs:
        """Read a CSV with the columns `params,tokens,loss`; others are ignored."""
        try:
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {error}") from None
        if not rows:
            raise UsageError(f"{path} holds no runs: give a CSV with the columns {','.join(COLUMNS)}")
        for name in COLUMNS:
            if name not in rows[0]:
                raise UsageError(f"{path} has no column {name!r}{suggest(name, rows[0])} (it has {', '.join(rows[0])})")
        return cls.of(
            (_number(path, line, row, "params"), _number(path, line, row, "tokens"), _number(path, line, row, "loss"))
            for line, row in enumerate(rows, 2)
        )

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: npt.NDArray[np.intp]) -> Runs:
        """Return the runs at the given places, repeats allowed."""
        return Runs(self.params[rows], self.tokens[rows], self.loss[rows])

    def with_loss(self, loss: Floats) -> Runs:
        """Return the same design with other losses."""
        return Runs(self.params, self.tokens, loss)

    def write_csv(self, path: Path) -> None:
        """Write the three columns that `from_csv` reads."""
        rows = zip(self.params.tolist(), self.tokens.tolist(), self.loss.tolist(), strict=True)
        lines = [",".join(COLUMNS), *(f"{params:.0f},{tokens:.0f},{loss!r}" for params, tokens, loss in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _number(path: str | Path, line: int, row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError):
        raise UsageError(f"{path}, line {line}: {name} is {row[name]!r}, which is not a number") from None
