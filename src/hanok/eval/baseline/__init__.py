"""What a text costs without our model, one file each: a figure means something only beside these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanok.core.registry import Registry
from hanok.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Held:
    """The held-out texts, and what a baseline may learn from: the tokenizer and the training shards, if there are."""

    texts: Sequence[str]
    tokenizer: Tokenizer
    train: Path | None

    @property
    def bytes(self) -> int:
        """Return the UTF-8 bytes of the texts."""
        return sum(len(text.encode()) for text in self.texts)


Baseline = Callable[[Held], float]

BASELINES: Registry[Baseline] = Registry("baseline", __name__)
