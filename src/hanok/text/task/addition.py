"""Addition of two numbers, digit by digit."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import model_validator

from hanok.core.config import PartConfig
from hanok.text.task import TASKS
from hanok.text.task.base import Item, Task


@TASKS.register("addition")
class Addition(Task):
    """Addition of two whole numbers, `47 + 5 =` to `52`; the key is the pair in either order."""

    class Config(PartConfig):
        """How many digits each number has, drawn evenly."""

        kind: Literal["addition"] = "addition"
        digits: tuple[int, int] = (1, 2)

        @model_validator(mode="after")
        def _in_order(self) -> Addition.Config:
            if not 1 <= self.digits[0] <= self.digits[1] <= 18:
                raise ValueError("digits must be a range like [1, 2], from 1 to 18")
            return self

    config: Config

    def draw(self, rng: random.Random) -> Item:
        """Return a sum of two numbers whose lengths are drawn first, so that short ones are not rare."""
        a, b = (self._number(rng) for _ in range(2))
        return Item(f"{a} + {b} =", str(a + b), "addition", f"{min(a, b)}+{max(a, b)}")

    def wrong(self, item: Item, rng: random.Random) -> str:
        """Return a sum with one wrong digit or a forgotten carry."""
        right = int(item.answer)
        steps = [step for place in range(len(item.answer)) for step in (10**place, -(10**place))]
        return str(rng.choice([right + step for step in steps if right + step >= 0]))

    @property
    def chance(self) -> float:
        """Return the chance of a number drawn evenly from all possible sums."""
        low, high = self._bounds(self.config.digits[0])[0], self._bounds(self.config.digits[1])[1]
        return 1 / (2 * high - 2 * low + 1)

    def _number(self, rng: random.Random) -> int:
        return rng.randint(*self._bounds(rng.randint(*self.config.digits)))

    def _bounds(self, digits: int) -> tuple[int, int]:
        return (0 if digits == 1 else 10 ** (digits - 1)), 10**digits - 1
