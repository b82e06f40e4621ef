"""Which drafts become rows: those that are whole, not there yet, verified, and new."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hanok.align.reward import Reward
from hanok.align.synthetic.ask import Draft, Row
from hanok.align.synthetic.novelty import Novelty
from hanok.core.config import digest
from hanok.core.errors import UsageError


@dataclass(frozen=True)
class Verifier:
    """Rewards with their weights; a row passes if their weighted sum is at least `least`."""

    rewards: Sequence[tuple[str, float, Reward]]
    least: float

    def __call__(self, draft: Draft) -> float:
        """Return the weighted sum for a draft."""
        row = draft.row
        prompt, completion = row.get("prompt", ""), row["completion"] if "completion" in row else row["text"]
        columns: dict[str, list[Any]] = {k: [v] for k, v in row.items() if k not in ("prompt", "completion")}
        total = 0.0
        for name, weight, reward in self.rewards:
            scores = list(reward([prompt], [completion], **columns, finished=[draft.finished]))
            if len(scores) != 1:
                raise UsageError(f"the reward {name!r} returned {len(scores)} scores for one completion")
            total += weight * float(scores[0])
        return total


class Judge:
    """Judges drafts in order; what it keeps counts at once as there.

    `novelty` None compares nothing but exact copies; `whole` drops what the model did not end by itself.
    """

    def __init__(self, *, novelty: float | None, verifier: Verifier | None, whole: bool = True) -> None:
        self.verifier, self.whole = verifier, whole
        self._novelty = None if novelty is None else Novelty(novelty)
        self._exact: dict[str, str] = {}

    def know(self, name: str, row: Row, key: str | None) -> None:
        """Take in a row that is there already."""
        self._exact.setdefault(identity(row), name)
        if self._novelty is not None and key is not None:
            self._novelty.add(name, key)

    def new(self, text: str) -> bool:
        """Say whether no text that is there is too much like this one."""
        return self._novelty is None or self._novelty.nearest(text) is None

    def sift(self, named: Iterable[tuple[str, Draft]]) -> tuple[list[tuple[str, Draft]], list[tuple[str, str]]]:
        """Return the (name, draft) that are kept, and (name, reason) of the others."""
        kept, dropped = [], []
        for name, draft in named:
            reason = self._reason(draft)
            if reason is None:
                self.know(name, draft.row, draft.key)
                kept.append((name, draft))
            else:
                dropped.append((name, reason))
        return kept, dropped

    def _reason(self, draft: Draft) -> str | None:
        """Return why a draft is dropped; the cheap reasons come first."""
        if draft.fault is not None:
            return draft.fault
        if self.whole and not draft.finished:
            return "the reply was cut off at max_tokens"
        if not str(draft.row.get("completion", draft.row.get("text", ""))).strip():
            return "the reply is empty"
        twin = self._exact.get(identity(draft.row))
        if twin is not None:
            return f"a copy of {twin}"
        if self.verifier is not None and (score := self.verifier(draft)) < self.verifier.least:
            return f"the verifier gives {score:.4g}, below {self.verifier.least:.4g}"
        if self._novelty is not None and draft.key is not None and (near := self._novelty.nearest(draft.key)):
            return f"ROUGE-L {near[1]:.2f} with {near[0]}"
        return None


def identity(row: Row) -> str:
    """Return what two rows share if one is a copy of the other."""
    return digest([row.get("prompt"), row.get("completion"), row.get("text")])
