"""A text as chunks that train at once: rows are inputs, columns their possible neighbours and shared drawn words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

CHUNK = 32  # words in a row of the batch; their windows reach into the words beside them
SHARED = 32  # drawn words that a chunk shares: the same expectation as drawing for each pair, at a fraction of the cost
REPEATS = 8  # how often the most frequent word may be expected in a batch, as all its updates come at once
LARGEST = 64  # chunks in a batch

# Shapes: G chunks, C = CHUNK words, H = C + 2 window columns, N = SHARED drawn words.


@dataclass(frozen=True)
class Batch:
    """Words with their surroundings (G, H), which of them are neighbours (G, C, H), and drawn words (G, N)."""

    words: Tensor
    near: Tensor
    drawn: Tensor

    @property
    def centres(self) -> Tensor:
        """Return the words of the rows (G, C), in the middle of their surroundings."""
        window = (self.words.shape[1] - CHUNK) // 2
        return self.words[:, window : window + CHUNK]


@dataclass(frozen=True)
class Noise:
    """Where words and their negatives come from: each word's chance to stay, and the sums of count^power."""

    keep: Tensor
    sums: Tensor

    @classmethod
    def of(cls, counts: Tensor, sample: float, power: float) -> Noise:
        """Return the chances of words that were seen `counts` times; a `sample` of 0 keeps every word."""
        share = counts.double() / counts.sum()
        keep = ((share / sample).sqrt() + 1) * sample / share if sample else torch.ones_like(share)
        return cls(keep.clamp(max=1), counts.double().pow(power).cumsum(0))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return words by their chance as a negative."""
        places = torch.rand(shape, generator=generator, dtype=torch.float64) * self.sums[-1]
        return torch.searchsorted(self.sums, places, right=True).clamp(max=len(self.sums) - 1)


def batches(text: Tensor, noise: Noise, window: int, generator: torch.Generator) -> Iterator[tuple[Batch, float]]:
    """Yield the batches of one pass over a text (2, T) of words and the numbers of their sentences, and how far it is.

    Frequent words are left out at random, which widens the windows of the others; each word draws how many of its
    `window` neighbours on either side count.
    """
    stays = torch.rand(text.shape[1], generator=generator, dtype=torch.float64) < noise.keep[text[0]]
    kept = text[:, stays]
    chunks = -(-kept.shape[1] // CHUNK)
    size = batch_size(noise, kept[0])
    # Beyond both ends stands nothing, in a sentence of its own.
    words = pad(kept[0], (window, chunks * CHUNK - kept.shape[1] + window))
    sentence = pad(kept[1], (window, chunks * CHUNK - kept.shape[1] + window), value=-1)
    width = CHUNK + 2 * window
    words, sentence = words.unfold(0, width, CHUNK), sentence.unfold(0, width, CHUNK)
    reach = (torch.arange(width) - window - torch.arange(CHUNK)[:, None]).abs()
    reach[reach == 0] = width  # nobody is its own neighbour
    for start in range(0, chunks, size):
        here = words[start : start + size].contiguous()
        groups = sentence[start : start + size]
        mine = groups[:, window : window + CHUNK, None]
        reaches = torch.randint(1, window + 1, mine.shape, generator=generator)
        near = (reach <= reaches) & (groups[:, None] == mine) & (mine >= 0)
        drawn = noise.draw((len(here), SHARED), generator)
        yield Batch(here, near.float(), drawn), start / chunks


def batch_size(noise: Noise, words: Tensor) -> int:
    """Return how many chunks make a batch in which no word comes too often."""
    most = int(torch.bincount(words).max()) if len(words) else 1
    return min(max(REPEATS * len(words) // (most * CHUNK), 1), LARGEST)
