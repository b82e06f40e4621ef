"""Korean particles that depend on how a noun ends: 은/는, 이/가, 을/를."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import Field, model_validator

from hanok.core.config import PartConfig
from hanok.text.task import TASKS
from hanok.text.task.base import Item, Task

PAIRS = (("은", "는"), ("이", "가"), ("을", "를"))  # behind a final consonant, behind a vowel
# Syllables of everyday nouns; nonce nouns are made of them, so that a small model has seen each one somewhere.
OPEN = (
    "과사나무바다구리머소자차고기도시오이모아버지어니누하주부수두배추포토카드의조개비제비타파지코미로라가호다노보야우"
)
CLOSED = "책집물학생선강산별달빛꽃감밥국눈손발길문방밤낮봄섬숲논밭말닭곰범양용콩팥쌀떡엿김귤잔컵창벽돌솔실북종총칼활"


@TASKS.register("josa")
class Josa(Task):
    """The Korean particle that fits a nonce noun, `사과 + (은/는)` to `는`; the key is the noun.

    은, 이 and 을 follow a final consonant, 는, 가 and 를 a vowel; a syllable has a final consonant if its code point
    less 0xAC00 is no multiple of 28.
    """

    class Config(PartConfig):
        """How many syllables a noun has, and how many different ones there are, half with a final consonant."""

        kind: Literal["josa"] = "josa"
        syllables: tuple[int, int] = (2, 3)
        inventory: int = Field(default=60, ge=8, le=2 * min(len(set(OPEN)), len(set(CLOSED))))

        @model_validator(mode="after")
        def _in_order(self) -> Josa.Config:
            if not 1 <= self.syllables[0] <= self.syllables[1] <= 8:
                raise ValueError("syllables must be a range like [2, 3], from 1 to 8")
            return self

    config: Config

    def draw(self, rng: random.Random) -> Item:
        """Return a nonce noun, as often with a final consonant as without, and a pair to choose from."""
        half = self.config.inventory // 2
        kinds = ["".join(dict.fromkeys(letters))[:half] for letters in (OPEN, CLOSED)]
        body = "".join(rng.choice(kinds[0] + kinds[1]) for _ in range(rng.randint(*self.config.syllables) - 1))
        noun = body + rng.choice(rng.choice(kinds))
        pair = rng.choice(PAIRS)
        return Item(f"{noun} + ({pair[0]}/{pair[1]})", pair[0] if has_final(noun) else pair[1], "josa", noun)

    def wrong(self, item: Item, rng: random.Random) -> str:
        """Return the other particle of the pair."""
        pair = next(pair for pair in PAIRS if item.answer in pair)
        return pair[1] if item.answer == pair[0] else pair[0]

    @property
    def chance(self) -> float:
        """Return the chance of either particle of the pair that is asked for."""
        return 0.5


def has_final(word: str) -> bool:
    """Say whether a Korean word ends in a consonant: the syllable's index within its block of 28 is not 0."""
    return (ord(word[-1]) - 0xAC00) % 28 != 0
