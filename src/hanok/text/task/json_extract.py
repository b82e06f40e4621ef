"""Reading one entry out of a JSON object."""

from __future__ import annotations

import json
import random
from typing import Literal

from pydantic import Field, model_validator

from hanok.core.config import PartConfig
from hanok.text.task import TASKS
from hanok.text.task.base import Item, Task

KEYS = (
    "age", "code", "color", "count", "day", "id", "key", "level", "line", "name", "order", "page",
    "price", "rank", "score", "size", "speed", "step", "time", "type", "unit", "value", "width", "year",
)  # fmt: skip


@TASKS.register("json_extract")
class JsonExtract(Task):
    """Extraction from JSON, `{"size": 7, "age": 42} get "age"` to `"age": 42`; the key is the object in any order."""

    class Config(PartConfig):
        """How many entries an object has, how many digits a value has, and from how many keys they come."""

        kind: Literal["json_extract"] = "json_extract"
        entries: tuple[int, int] = (2, 3)
        digits: tuple[int, int] = (1, 2)
        keys: int = Field(default=12, ge=4, le=len(KEYS))

        @model_validator(mode="after")
        def _in_order(self) -> JsonExtract.Config:
            if not 2 <= self.entries[0] <= self.entries[1] <= min(self.keys, 9):
                raise ValueError("entries must be a range like [2, 3], from 2 to 9 and at most the number of keys")
            if not 1 <= self.digits[0] <= self.digits[1] <= 9:
                raise ValueError("digits must be a range like [1, 2], from 1 to 9")
            return self

    config: Config

    def draw(self, rng: random.Random) -> Item:
        """Return an object with different values and a question for one of them."""
        names = rng.sample(KEYS[: self.config.keys], rng.randint(*self.config.entries))
        values: list[int] = []
        while len(values) < len(names):
            digits = rng.randint(*self.config.digits)
            value = rng.randint(10 ** (digits - 1), 10**digits - 1)
            if value not in values:
                values.append(value)
        data = dict(zip(names, values, strict=True))
        asked = rng.choice(names)
        key = json.dumps(data, sort_keys=True)
        return Item(f'{json.dumps(data)} get "{asked}"', f'"{asked}": {data[asked]}', "json_extract", key)

    def wrong(self, item: Item, rng: random.Random) -> str:
        """Return the value of another key."""
        data = json.loads(item.prompt[: item.prompt.rindex("}") + 1])
        name, _, right = item.answer.partition(": ")
        return f"{name}: {rng.choice([value for value in data.values() if str(value) != right])}"

    @property
    def chance(self) -> float:
        """Return the chance of any value that stands in the object: the mean of 1/entries."""
        sizes = range(self.config.entries[0], self.config.entries[1] + 1)
        return sum(1 / n for n in sizes) / len(sizes)
