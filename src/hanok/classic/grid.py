"""A made-up language in which every word is a pair of meanings, so that analogies have right answers."""

from __future__ import annotations

import random

from hanok.core.rng import derive

ROWS = ("korea", "france", "kenya", "peru", "norway", "egypt", "japan", "chile", "ghana", "italy", "nepal", "cuba")
COLUMNS = ("capital", "river", "song", "coin")


def grid_sentences(n: int, seed: int = 0) -> list[list[str]]:
    """Return sentences about `<row>_<column>` words, such as france_coin.

    What stands around such a word tells its row and its column apart: some words go with the row, others with the
    column, the rest with anything. So france_coin - france_song should be peru_coin - peru_song.
    """
    rng = random.Random(derive(seed, "grid"))
    sentences = []
    for _ in range(n):
        row, column = rng.choice(ROWS), rng.choice(COLUMNS)
        words = [f"{row}_{column}"]
        words += [f"{row}{rng.randrange(4)}" for _ in range(3)]
        words += [f"{column}{rng.randrange(4)}" for _ in range(3)]
        words += [f"filler{rng.randrange(20)}" for _ in range(2)]
        rng.shuffle(words)
        sentences.append(words)
    return sentences


def grid_questions() -> list[tuple[str, str, str, str]]:
    """Return every question that the grid can ask: a is to b as c is to the fourth, its answer."""
    return [
        (f"{row}_{column}", f"{row}_{other}", f"{second}_{column}", f"{second}_{other}")
        for row in ROWS
        for second in ROWS
        for column in COLUMNS
        for other in COLUMNS
        if row != second and column != other
    ]
