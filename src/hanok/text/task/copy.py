"""Copying a row of letters."""

from __future__ import annotations

import random
from typing import Literal

from hanok.text.task import TASKS
from hanok.text.task.base import Item, Task
from hanok.text.task.letters import LetterConfig, disorder, draw_letters, order_chance


@TASKS.register("copy")
class Copy(Task):
    """Copying letters, `copy: k e a` to `k e a`; the key is the row."""

    class Config(LetterConfig):
        """The lengths of the rows."""

        kind: Literal["copy"] = "copy"

    config: Config

    def draw(self, rng: random.Random) -> Item:
        """Return a row of different letters."""
        row = " ".join(draw_letters(self.config, rng))
        return Item(f"copy: {row}", row, "copy", row)

    def wrong(self, item: Item, rng: random.Random) -> str:
        """Return the row with two letters swapped, one lost or one doubled."""
        return " ".join(disorder(item.answer.split(), rng))

    @property
    def chance(self) -> float:
        """Return the chance of the row's letters in a random order."""
        return order_chance(self.config)
