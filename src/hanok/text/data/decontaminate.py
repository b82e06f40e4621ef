"""Decontamination: finds the text of evaluation sets in a document, however it is wrapped, spelt and surrounded."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError
from hanok.text.data.words import LETTER, MARK, Hashes, Ints, Rolling, codes, kinds

LETTERS_PER_WORD = 4
MIN_WORDS = 8  # GPT-3's least n
SLOT_BITS = 20


@dataclass(frozen=True)
class Leak:
    """Text of an evaluation item in a document: how many of the item's windows, and the first of them as found."""

    item: str
    windows: int
    share: float
    excerpt: str


class Letters:
    """A text without anything but its letters and digits, and where words begin in it.

    Without case, accents and compatibility forms; Hangul as jamo; every Han or Kana sign begins a word.
    """

    def __init__(self, text: str) -> None:
        values = codes(unicodedata.normalize("NFKD", text.casefold()))
        found = kinds()[values]
        if (found == MARK).any():  # an accent is as if it were not there
            values, found = values[found != MARK], found[found != MARK]
        letter = found == LETTER
        begins = letter.copy()
        begins[1:] &= ~letter[:-1]
        if len(values) and values.max() >= 0x3041:
            begins |= letter & (values >= 0x3041) & (values <= 0x9FFF) & ((values < 0x3130) | (values >= 0x3400))
        self.codes = values[letter]
        self.starts: Ints = (np.cumsum(letter) - 1)[begins]
        self._rolling = Rolling(self.codes)

    def windows(self, length: int) -> tuple[Hashes, Ints]:
        """Return a hash of each window of `length` letters that begins with a word, and where it begins."""
        starts = self.starts[self.starts + length <= len(self.codes)]
        return self._rolling.hashes(starts, starts + length), starts


class Index:
    """The windows of letters of evaluation items, by which their leaks are known.

    GPT-3 (Brown et al. 2020, appendix C) looks for 13-grams of words (8 to 13, by the length of the items) and GPT-4
    (2023, appendix C) for 50 characters without spaces and symbols. This is the second way, at every word: letters and
    digits of the text, without case, accents, punctuation and white space, in windows of 4 n (52 for n = 13) that begin
    where a word does. So neither new lines, case nor punctuation (put in, left out or changed) hide a leak, and one
    window is enough, however much other text stands around it. Hangul counts by jamo, so that Korean and English
    windows hold about as much. Items shorter than a window are looked for as a whole, down to 32 letters (`MIN_WORDS`);
    below that they are everyday phrases and are left out (`unprotected`).

    A window that more than `max_items` items share is a template of the evaluation and says nothing (GPT-3 likewise
    leaves out 13-grams with more than 10 occurrences); so are windows of the texts in `ignore`.
    """

    def __init__(self, n: int, items: Sequence[str], lengths: Sequence[int], table: dict[str, Any]) -> None:
        self.n, self.items, self._lengths = n, list(items), list(lengths)
        # The items owners[offsets[i] : offsets[i + 1]] have the window keys[i]; keys ascend.
        self._keys: Hashes = table["keys"]
        self._owners: Ints = table["owners"]
        self._offsets: Ints = table["offsets"]
        keys, owners = self._keys, self._owners
        self._sizes = np.bincount(owners, minlength=len(self.items))
        self._slots = np.zeros(1 << SLOT_BITS, dtype=np.bool_)
        self._slots[_slot(keys)] = True

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        *,
        n: int = 13,
        ids: Sequence[str] | None = None,
        ignore: Iterable[str] = (),
        max_items: int = 10,
    ) -> Index:
        """Index texts of evaluation items; `ids` names them (else they are numbered)."""
        if n < MIN_WORDS or max_items < 1:
            raise UsageError(f"decontamination needs n >= {MIN_WORDS} and max_items >= 1, not {n} and {max_items}")
        read = [Letters(text) for text in texts]
        names = [str(number) for number in range(len(read))] if ids is None else list(ids)
        if len(names) != len(read):
            raise UsageError(f"{len(read)} texts cannot have {len(names)} ids")
        lengths = sorted({length for item in read if (length := _length(item, n))})
        found = [item.windows(length)[0] if (length := _length(item, n)) else _NONE for item in read]
        pairs = np.unique(_pairs(_without_repeats(read, found)), axis=0)
        keys, first, counts = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        known = [item.windows(length)[0] for item in map(Letters, ignore) for length in lengths]
        kept = (counts <= max_items) & ~np.isin(keys, np.concatenate(known) if known else [])
        spans = [np.arange(start, start + count) for start, count in zip(first[kept], counts[kept], strict=True)]
        owners = pairs[np.concatenate(spans), 1].astype(np.int64) if spans else np.zeros(0, dtype=np.int64)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts[kept])])
        return cls(n, names, lengths, {"keys": keys[kept], "owners": owners, "offsets": offsets})

    @property
    def unprotected(self) -> list[str]:
        """Return the ids of items that no leak can be known by: too short, repeated in the set, or all template."""
        return [self.items[number] for number in np.flatnonzero(self._sizes == 0).tolist()]

    def find(self, text: str, *, min_share: float = 0.0) -> list[Leak]:
        """Return the items that leak into a text by at least a share of their windows, the most complete first."""
        if not len(self._keys):
            return []
        read = Letters(text)
        owners, places = self._matches(read)
        leaks = []
        for owner in np.unique(owners).tolist():
            mine = places[owners == owner]
            count = len(np.unique(mine))
            share = min(count / int(self._sizes[owner]), 1.0)
            if share >= min_share:
                begin = int(mine.min())
                shown = "".join(map(chr, read.codes[begin : begin + LETTERS_PER_WORD * self.n].tolist()))
                leaks.append(Leak(self.items[owner], count, share, unicodedata.normalize("NFC", shown)))
        return sorted(leaks, key=lambda leak: (-leak.share, leak.item))

    def _matches(self, read: Letters) -> tuple[Ints, Ints]:
        """Return the items that windows of a text belong to, and where those windows begin."""
        owners, places = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for length in self._lengths:
            hashes, starts = read.windows(length)
            likely = self._slots[_slot(hashes)]  # a table that fits the cache spares nearly every search
            hashes, starts = hashes[likely], starts[likely]
            at = np.minimum(np.searchsorted(self._keys, hashes), len(self._keys) - 1)
            for key, start in zip(at[self._keys[at] == hashes], starts[self._keys[at] == hashes], strict=True):
                found = self._owners[self._offsets[key] : self._offsets[key + 1]]
                owners.append(found)
                places.append(np.full(len(found), start))
        return np.concatenate(owners), np.concatenate(places)

    def save(self, path: str | Path) -> None:
        """Write the index to one safetensors file, which holds hashes and ids but no text."""
        arrays: dict[str, npt.NDArray[Any]] = {"keys": self._keys, "owners": self._owners, "offsets": self._offsets}
        about = {"n": self.n, "items": self.items, "lengths": self._lengths}
        atomic_write(Path(path), save(arrays, metadata={"format": "decontamination", "config": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read an index that `save` has written."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
            if metadata.get("format") != "decontamination":
                raise ValueError("it holds something else")
            about, arrays = json.loads(metadata["config"]), load_file(path)
            return cls(about["n"], about["items"], about["lengths"], arrays)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
            raise UsageError(f"{path} is not a saved decontamination index: {error}") from None


_NONE: Hashes = np.zeros(0, dtype=np.uint64)


def _length(item: Letters, n: int) -> int:
    """Return how long the windows of an item are: in full, or nearly as long as the item; 0 if it is too short."""
    length = min(len(item.codes) // LETTERS_PER_WORD, n) * LETTERS_PER_WORD
    return length if length >= LETTERS_PER_WORD * MIN_WORDS else 0


def _without_repeats(items: Sequence[Letters], found: Sequence[Hashes]) -> list[Hashes]:
    """Return the windows of items, none for an item that an earlier one equals: its windows would seem a template."""
    seen: set[bytes] = set()
    result = []
    for item, hashes in zip(items, found, strict=True):
        raw = item.codes.tobytes()
        result.append(_NONE if raw in seen else hashes)
        seen.add(raw)
    return result


def _pairs(found: Sequence[Hashes]) -> Hashes:
    """Return (hash, number of the item) of all windows."""
    numbers = [np.full(len(hashes), number, dtype=np.uint64) for number, hashes in enumerate(found)]
    return np.stack([np.concatenate([_NONE, *found]), np.concatenate([_NONE, *numbers])], axis=1)


def _slot(hashes: Hashes) -> Ints:
    return (hashes >> np.uint64(64 - SLOT_BITS)).astype(np.int64)
