"""Taking spans out of text for span corruption: what an encoder reads, and what a decoder is to write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.changed import Draws
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.extend import with_specials

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """Replaces spans by one mark each, and makes the decoder's text of the marks and what they stand for.

    Of n tokens round(rate n) are taken out, in round(that / mean) spans whose lengths, and the gaps between them, are
    drawn evenly among all ways to divide (T5's own scheme: `random_spans_noise_mask`). Both texts end with EOS, and the
    decoder's begins with `start`. So a window of 512 becomes a source of 462 and a target of 104 tokens.
    """

    rate: float
    mean: float
    sentinels: tuple[int, ...]
    start: int
    end: int | None
    pad: int

    @classmethod
    def prepare(cls, tokenizer: Tokenizer, *, rate: float, mean: float, sentinels: int) -> tuple[Tokenizer, Spans]:
        """Return a tokenizer with the marks <extra_id_0>, ... as T5's have them, and the spans for its vocabulary."""
        names = [f"<extra_id_{i}>" for i in range(sentinels)]
        tokenizer = with_specials(tokenizer, names)
        ids = tuple(id for name in names if (id := tokenizer.token_id(name)) is not None)
        return tokenizer, cls(rate, mean, ids, start_of(tokenizer), tokenizer.eos_id, tokenizer.pad_id or 0)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the decoder's batch with the column `source`, and `source_seen` where sources have padding."""
        if batch.segments is not None:
            raise UsageError("span corruption takes windows of running text, not rows of packed documents")
        rows = batch.tokens.numpy()
        sizes = (batch.weights.numpy() > 0).sum(1)
        pairs = [self.cut(row[:size], draw) for row, size, draw in zip(rows, sizes, draws, strict=True)]
        sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
        source, seen = _pad(sources, self.pad)
        target, counted = _pad(targets, self.pad)
        tokens = np.concatenate((np.full((len(rows), 1), self.start), target[:, :-1]), 1)
        columns = {"source": torch.from_numpy(source)}
        if not seen.all():
            columns["source_seen"] = torch.from_numpy(seen.astype(np.float32))
        positions = torch.arange(target.shape[1]).expand(target.shape).contiguous()
        weights = torch.from_numpy(counted.astype(np.float32))
        return Batch(torch.from_numpy(tokens), torch.from_numpy(target), weights, positions, None, columns)

    def cut(self, text: Ids, draw: np.random.Generator) -> tuple[Ids, Ids]:
        """Return the source and the target of one text; too short a text (fewer than 2 tokens) has no target."""
        end = np.asarray([] if self.end is None else [self.end], dtype=np.int64)
        if len(text) < 2:
            return np.concatenate((text, end)), text[:0]
        noise = min(max(round(len(text) * self.rate), 1), len(text) - 1)
        spans = min(max(round(noise / self.mean), 1), noise, len(text) - noise)
        if spans > len(self.sentinels):
            raise UsageError(
                f"{spans} spans of a text of {len(text)} tokens need as many marks: objective.sentinels is "
                f"{len(self.sentinels)}"
            )
        gaps, taken = _divide(len(text) - noise, spans, draw), _divide(noise, spans, draw)
        edges = np.cumsum(np.stack((gaps, taken), 1).ravel())[:-1]
        parts = np.split(text, edges)
        marks = [np.asarray([id]) for id in self.sentinels[:spans]]
        source = [part for pair in zip(parts[0::2], marks, strict=True) for part in pair]
        target = [part for pair in zip(marks, parts[1::2], strict=True) for part in pair]
        return np.concatenate((*source, end)), np.concatenate((*target, end))


def start_of(tokenizer: Tokenizer) -> int:
    """Return what a decoder begins with: PAD as T5's does, or BOS, EOS or 0 where there is none."""
    marks = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    return next((id for id in marks if id is not None), 0)


def _divide(items: int, parts: int, draw: np.random.Generator) -> Ids:
    """Return the sizes of `parts` parts of at least one item, every division being equally likely."""
    borders = np.sort(draw.choice(items - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate(([0], borders, [items]))).astype(np.int64)


def _pad(rows: list[Ids], pad: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Return rows of one length, and which of their places are filled."""
    width = max(1, *map(len, rows))
    out = np.full((len(rows), width), pad, dtype=np.int64)
    filled = np.arange(width)[None] < np.asarray([len(row) for row in rows])[:, None]
    out[filled] = np.concatenate(rows)
    return out, filled
