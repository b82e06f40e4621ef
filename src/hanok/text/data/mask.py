"""Hiding tokens for masked language modelling, singly or by whole words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from hanok.text.batch import Batch
from hanok.text.data.changed import Draws
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.extend import with_specials

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MASK = "<|mask|>"
KNOWN = ("[MASK]", "<mask>", MASK)  # BERT's, RoBERTa's, ours


@dataclass(frozen=True)
class Masking:
    """The share of tokens to choose, the shares of these that are masked and replaced, and whether words stay whole."""

    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    unit: Literal["token", "word"] = "token"


@dataclass(frozen=True, eq=False)
class Mask:
    """Makes targets of chosen tokens themselves, and weights that are 1 for them alone.

    Of a row's n ordinary tokens round(rate n), and at least one, are chosen. By words, whole words in random order
    are, as long as they fit into that number; what becomes of a token is drawn for each alone, as in BERT's own code.
    """

    how: Masking
    mask_id: int
    ordinary: Ids
    opens: Flags
    closes: Flags

    @classmethod
    def prepare(cls, tokenizer: Tokenizer, how: Masking) -> tuple[Tokenizer, Mask]:
        """Return a tokenizer that has a mask token, and the masking for its vocabulary."""
        named = tokenizer.config.get("mask_token")
        named = named.get("content") if isinstance(named, dict) else named
        name = next((word for word in (named, *KNOWN) if word and tokenizer.token_id(word) is not None), None)
        if name is None:
            name = MASK
            tokenizer = with_specials(tokenizer, [MASK], mask_token=MASK)
        mask_id = tokenizer.token_id(name)
        assert mask_id is not None
        specials = {*tokenizer.specials.values(), mask_id}
        known = [id for id in range(tokenizer.vocab_size) if id not in specials and tokenizer.token(id) is not None]
        opens, closes = _edges(tokenizer)
        return tokenizer, cls(how, mask_id, np.asarray(known, dtype=np.int64), opens, closes)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with tokens hidden; where the weight was zero (padding), none is chosen."""
        tokens = batch.tokens.numpy().copy()
        weights = np.zeros(tokens.shape, dtype=np.float32)
        ordinary = np.isin(tokens, self.ordinary) & (batch.weights.numpy() > 0)
        segments = batch.segments
        if segments is None and not batch.weights.all():  # an encoder would see padding, were it not a document apart
            segments = (batch.weights == 0).long()
        borders = None if segments is None else segments.numpy()
        for b, draw in enumerate(draws):
            taken = self._choose(tokens[b], ordinary[b], None if borders is None else borders[b], draw)
            fate = draw.random(len(taken))
            masked, swapped = fate < self.how.mask, (fate >= self.how.mask) & (fate < self.how.mask + self.how.random)
            tokens[b, taken[masked]] = self.mask_id
            tokens[b, taken[swapped]] = draw.choice(self.ordinary, int(swapped.sum()))
            weights[b, taken] = 1.0
        hidden, chosen = torch.from_numpy(tokens), torch.from_numpy(weights)
        return Batch(hidden, batch.tokens, chosen, batch.positions, segments, batch.columns)

    def _choose(self, row: Ids, ordinary: Flags, borders: Ids | None, draw: np.random.Generator) -> Ids:
        places = np.flatnonzero(ordinary)
        if not len(places):
            return places
        wanted = max(1, round(self.how.rate * len(places)))
        if self.how.unit == "token":
            return np.sort(draw.permutation(places)[:wanted])
        words = np.split(places, np.flatnonzero(self._starts(row, borders)[places])[1:])
        words = [word for word in words if len(word)]
        taken: list[Ids] = []
        for index in draw.permutation(len(words)):
            if sum(map(len, taken)) + len(words[index]) <= wanted or not taken:
                taken.append(words[index])
        return np.sort(np.concatenate(taken))

    def _starts(self, row: Ids, borders: Ids | None) -> Flags:
        """Return where a word begins: after an edge, at an edge, and behind anything that is no ordinary token."""
        starts = np.ones(len(row), dtype=bool)
        starts[1:] = self.opens[row[1:]] | self.closes[row[:-1]]
        if borders is not None:
            starts[1:] |= borders[1:] != borders[:-1]
        return starts


def _edges(tokenizer: Tokenizer) -> tuple[Flags, Flags]:
    """Return which ids begin a word whatever stands before them, and which end one whatever follows.

    A word is a run of letters, digits and bytes beyond ASCII; WordPiece says itself what continues one (`##`).
    """
    size = tokenizer.vocab_size
    names = [tokenizer.token(id) or "" for id in range(size)]
    pieces = any(name.startswith("##") and len(name) > 2 for name in names) and tokenizer.token_id("[CLS]") is not None
    opens, closes = np.ones(size, dtype=bool), np.ones(size, dtype=bool)
    specials = set(tokenizer.specials.values())
    for id, name in enumerate(names):
        if id in specials:
            continue
        if pieces:
            opens[id], closes[id] = not name.startswith("##"), False
            continue
        raw = tokenizer.token_bytes(id)
        if raw:
            opens[id], closes[id] = not _inside(raw[0]), not _inside(raw[-1])
    return opens, closes


def _inside(byte: int) -> bool:
    return byte >= 0x80 or chr(byte).isalnum()
