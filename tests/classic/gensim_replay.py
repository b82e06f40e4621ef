"""What gensim's compiled trainer draws and looks up, so that its numbers can be made again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hanok.classic.problem import Problem


class Replay:
    """What gensim draws for one sentence: windows from its generator, negatives from its linear congruential one."""

    def __init__(self, model, length: int) -> None:
        state = np.random.RandomState()
        state.set_state(model.random.get_state())
        # The order of its compiled trainer: the seed of the negatives, then the windows.
        self.next = 2**24 * int(state.randint(0, 2**24)) + int(state.randint(0, 2**24))
        self.cut = state.randint(0, model.window, length)
        self.table = model.cum_table
        self.window, self.negative = model.window, model.negative

    def near(self, i: int, length: int) -> list[int]:
        reach = self.window - int(self.cut[i])
        return [j for j in range(max(0, i - reach), min(length, i + reach + 1)) if j != i]

    def draw(self, target: int) -> list[int]:
        found = []
        for _ in range(self.negative):
            found.append(int(np.searchsorted(self.table, (self.next >> 16) % int(self.table[-1]))))
            self.next = (self.next * 25214903917 + 11) % 2**48
        return [word for word in found if word != target]


def as_problem(tasks: list[tuple[list[int], int, list[int]]], words: int) -> Problem:
    """Put (inputs, target, drawn) tasks into our form: a row for each, all words as columns."""
    n = len(tasks)
    mix, positive, negative = torch.zeros(n, words), torch.zeros(n, words), torch.zeros(n, words)
    for row, (inputs, target, drawn) in enumerate(tasks):
        for word in inputs:
            mix[row, word] += 1 / len(inputs)
        positive[row, target] += 1
        for word in drawn:
            negative[row, word] += 1
    ids = torch.arange(words)
    return Problem(ids[None], ids[None], mix[None], positive[None], negative[None])


def in_gensims_table(scores: Tensor) -> Tensor:
    """Return the scores whose logistic function gensim takes: the nearest below of 1000 entries from -6 to 6, found
    with a step of 83 rather than 83.33 entries (as in the original C, 1000 / 6 / 2 is a division of integers)."""
    return 6 * (((scores + 6) * 83).floor() / 500 - 1)
