"""Reversing a row of letters."""

from __future__ import annotations

import random
from typing import Literal

from hanok.text.task import TASKS
from hanok.text.task.base import Item, Task
from hanok.text.task.letters import LetterConfig, disorder, draw_letters, order_chance


@TASKS.register("reversal")
class Reversal(Task):
    """Reversing letters, `reverse: k e a` to `a e k`; the key is the row in either direction."""

    class Config(LetterConfig):
        """The lengths of the rows."""

        kind: Literal["reversal"] = "reversal"

    config: Config

    def draw(self, rng: random.Random) -> Item:
        """Return a row of different letters and its reverse."""
        letters = draw_letters(self.config, rng)
        row, back = " ".join(letters), " ".join(reversed(letters))
        return Item(f"reverse: {row}", back, "reversal", min(row, back))

    def wrong(self, item: Item, rng: random.Random) -> str:
        """Return the row as it was, or its reverse with a slip."""
        letters = item.answer.split()
        return " ".join(reversed(letters) if rng.random() < 0.3 else disorder(letters, rng))

    @property
    def chance(self) -> float:
        """Return the chance of the row's letters in a random order."""
        return order_chance(self.config)
