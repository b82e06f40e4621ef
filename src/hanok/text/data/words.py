"""Words and letters of a text as 64-bit hashes, found and hashed by whole-array arithmetic.

The hashes are the same in every process and on every machine; nothing here depends on Python's `hash`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NUM_CODES = 0x110000
LETTER, MARK, SPACE = 1, 2, 3
STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
BASE = np.uint64(0xD6E8FEB86659FD93)  # odd, so that it has an inverse modulo 2^64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))


@dataclass(frozen=True)
class Words:
    """Words in order: a hash each, and where each begins and ends in the codes that were split."""

    hashes: Hashes
    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.hashes)


def mix(values: npt.NDArray[Any]) -> Hashes:
    """Return well-spread 64-bit values, one to one (the finaliser of SplitMix64, Steele et al. 2014, figure 16)."""
    mixed = values.astype(np.uint64) + STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def codes(text: str) -> npt.NDArray[np.uint32]:
    """Return the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def written_words(text: str) -> Words:
    """Return the runs of what is not white space, as they are written."""
    values = codes(text)
    return _split(values, kinds()[values] != SPACE)


def plain_words(text: str) -> Words:
    """Return the runs of letters and digits, without case and compatibility forms; a Han or Kana sign is a word.

    Texts that differ only in case, punctuation, white space or the width of their letters have the same words.
    """
    values = codes(unicodedata.normalize("NFKC", text.casefold()))
    found = kinds()[values]
    return _split(values, (found == LETTER) | (found == MARK), _alone()[values])


def ngrams(hashes: Hashes, n: int) -> Hashes:
    """Return a hash of every n consecutive hashes; if there are fewer than n, of all of them."""
    if not len(hashes):
        return hashes
    n = min(n, len(hashes))
    count = len(hashes) - n + 1
    total = np.zeros(count, dtype=np.uint64)
    for k in range(n):
        total = total * BASE + hashes[k : k + count]
    return mix(total)


class Rolling:
    """Hashes of any stretches of a sequence of codes, each in constant time.

    A stretch is the polynomial sum_i r(code_i) BASE^i modulo 2^64, r a fixed random function, taken as a difference of
    prefix sums. (Modulo a power of two such hashes can be made to collide by texts built for it, of more than a
    thousand codes: no harm here.)
    """

    def __init__(self, values: npt.NDArray[np.uint32]) -> None:
        up, self._down = _powers(len(values) + 1)
        self._prefix = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(_random()[values] * up[: len(values)], out=self._prefix[1:])

    def hashes(self, starts: Ints, ends: Ints) -> Hashes:
        """Return the hash of the codes from each start to its end."""
        stretches = (self._prefix[ends] - self._prefix[starts]) * self._down[starts]
        return mix(stretches + (ends - starts).astype(np.uint64))


def _split(values: npt.NDArray[np.uint32], inside: Flags, alone: Flags | None = None) -> Words:
    first, last = inside.copy(), inside.copy()
    first[1:] &= ~inside[:-1]
    last[:-1] &= ~inside[1:]
    if alone is not None and alone.any():
        first |= alone
        last |= alone
        first[1:] |= inside[1:] & alone[:-1]
        last[:-1] |= inside[:-1] & alone[1:]
    starts, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
    return Words(Rolling(values).hashes(starts, ends), starts, ends)


@lru_cache(maxsize=1)
def kinds() -> npt.NDArray[np.uint8]:
    """Return what every code is: a `LETTER` (or digit), a `MARK` upon one, a `SPACE`, or none of them (0)."""
    table = np.zeros(NUM_CODES, dtype=np.uint8)
    for code in (*range(0x40000), *range(0xE0000, 0xE0200)):  # nothing between and behind has a kind
        char = chr(code)
        kind = unicodedata.category(char)[0]
        table[code] = LETTER if kind in "LN" else MARK if kind == "M" else SPACE if char.isspace() else 0
    return table


@lru_cache(maxsize=1)
def _random() -> Hashes:
    return mix(np.arange(NUM_CODES))


@lru_cache(maxsize=1)
def _alone() -> Flags:
    table = np.zeros(NUM_CODES, dtype=np.bool_)
    for low, high in ((0x3041, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)):
        table[low : high + 1] = True
    return table


_POWERS: list[Hashes] = []


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return BASE^i and BASE^-i for at least `count` exponents; they grow with the longest text that was asked for."""
    if not _POWERS or len(_POWERS[0]) < count:
        size = max(1 << (count - 1).bit_length(), 4096)
        _POWERS[:] = [
            np.cumprod(np.r_[np.uint64(1), np.full(size - 1, base)], dtype=np.uint64) for base in (BASE, INVERSE)
        ]
    return _POWERS[0], _POWERS[1]
