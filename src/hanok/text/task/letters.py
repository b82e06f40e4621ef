"""Short rows of letters, which copy and reversal share."""

from __future__ import annotations

import math
import random

from pydantic import Field, model_validator

from hanok.core.config import PartConfig


class LetterConfig(PartConfig):
    """How many different letters a row has, drawn evenly, and from how many letters they come."""

    length: tuple[int, int] = (2, 5)
    alphabet: int = Field(default=26, ge=4, le=26)

    @model_validator(mode="after")
    def _in_order(self) -> LetterConfig:
        if not 2 <= self.length[0] <= self.length[1] <= self.alphabet:
            raise ValueError("length must be a range like [2, 5], from 2 to the size of the alphabet")
        return self


def draw_letters(config: LetterConfig, rng: random.Random) -> list[str]:
    """Return different letters in random order."""
    return rng.sample("abcdefghijklmnopqrstuvwxyz"[: config.alphabet], rng.randint(*config.length))


def disorder(letters: list[str], rng: random.Random) -> list[str]:
    """Return the letters with two neighbours swapped, one lost, or one replaced by another of the row."""
    letters = list(letters)
    place = rng.randrange(len(letters) - 1)
    mistake = rng.choice(("swap", "lose", "repeat"))
    if mistake == "swap":
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    elif mistake == "lose":
        del letters[place]
    else:
        letters[place] = letters[place + 1]
    return letters


def order_chance(config: LetterConfig) -> float:
    """Return the chance of giving the shown letters in a random order: the mean of 1/n! over the lengths."""
    lengths = range(config.length[0], config.length[1] + 1)
    return sum(1 / math.factorial(n) for n in lengths) / len(lengths)
