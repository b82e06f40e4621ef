"""What a checkable task can do: make items of a split, score an answer, and make a plausible wrong one."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.core.rng import derive
from hanok.text.data.split import Split, split_of

PATIENCE = 2000  # draws in a row without a new item before a split counts as used up


@dataclass(frozen=True)
class Item:
    """One question, its only right answer, and the key whose hash decides the split."""

    prompt: str
    answer: str
    task: str
    key: str = ""

    def messages(self, answer: str | None = None) -> list[dict[str, str]]:
        """Return the question, and an answer to it if given, as messages."""
        question = {"role": "user", "content": self.prompt}
        return [question] if answer is None else [question, {"role": "assistant", "content": answer}]


class Task(ABC):
    """A family of questions.

    The split of an item is a hash of its key, which holds everything that would give the answer away, so that no
    training item of any seed, size or difficulty can be a held-out one.
    """

    Config: ClassVar[type[PartConfig]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def draw(self, rng: random.Random) -> Item:
        """Return a random item of any split."""

    @abstractmethod
    def wrong(self, item: Item, rng: random.Random) -> str:
        """Return a plausible answer that scores lower than the right one."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Return the expected score of guessing with nothing but the form of an answer."""

    def score(self, item: Item, completion: str) -> float:
        """Return 1 for the right answer (white space around it aside), else 0."""
        return float(completion.strip() == item.answer)

    def items(self, split: Split, n: int, seed: int) -> list[Item]:
        """Return n items of a split, all different; only a training split that is used up begins to repeat."""
        rng = random.Random(derive(seed, f"{self.config.kind}/{split}"))
        found: dict[str, Item] = {}
        repeats: list[Item] = []
        failures = 0
        while len(found) + len(repeats) < n:
            item = self.draw(rng)
            if split_of(f"{self.config.kind}/{item.key}") != split:
                failures += 1
            elif item.prompt not in found:
                found[item.prompt] = item
                failures = 0
            else:
                failures += 1
                if failures > PATIENCE and split == "train":
                    repeats.append(item)
            if failures > 20 * PATIENCE and not (split == "train" and found):
                raise UsageError(
                    f"task {self.config.kind} has only {len(found)} items in the split {split!r}, {n} were asked for; "
                    "ask for fewer or widen its range"
                )
        items = [*found.values(), *repeats]
        rng.shuffle(items)
        return items
