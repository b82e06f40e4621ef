"""MinHash: near-duplicates by the n-grams of words that two texts share."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hanok.core.config import Config
from hanok.text.data.words import STEP, Hashes, mix, ngrams, plain_words

BLOCK = 2048  # shingles that are hashed at a time, so that the table of hashes stays in the cache


class MinHashConfig(Config):
    """FineWeb's setting (Penedo et al. 2024, section 3.4): 5-grams, 14 bands of 8 hashes.

    Two texts of Jaccard similarity J share a band with probability 1 - (1 - J^rows)^bands: 0.05 at J = 0.5, 0.56 at
    0.7, 0.77 at 0.75, 0.92 at 0.8, 0.9996 at 0.9.
    """

    ngram: int = Field(default=5, ge=1)
    bands: int = Field(default=14, ge=1)
    rows: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)


class MinHash:
    """Gives texts a key per band, such that similar texts are likely to have one in common.

    The n-grams ("shingles") are of words without case and punctuation. Under a random hash function the least hash of
    two sets is the same with probability J = |A & B| / |A | B| (Broder 1997); `rows` functions make a band, and one
    equal band makes a candidate (Leskovec et al., Mining of Massive Datasets, section 3.4). The functions are
    h -> (a h + b) mod 2^32 on shingles that are already well mixed, with a odd: fixed by the seed for all time.
    """

    words = 1  # 64-bit words that make one key

    def __init__(self, config: MinHashConfig | None = None) -> None:
        self.config = config or MinHashConfig()
        self.bands = self.config.bands
        start = np.uint64(self.config.seed) * np.uint64(2**32)
        draws = mix(start + np.arange(2 * self.num_hashes, dtype=np.uint64)).astype(np.uint32)
        self._scale, self._shift = (draws[: self.num_hashes] | np.uint32(1))[:, None], draws[self.num_hashes :, None]

    @property
    def num_hashes(self) -> int:
        """Return the number of hash functions."""
        return self.config.bands * self.config.rows

    def shingles(self, text: str) -> Hashes:
        """Return a hash of each n-gram of words; of all words if there are fewer; of the text if there is no word."""
        found = ngrams(plain_words(text).hashes, self.config.ngram)
        if len(found):
            return found
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def minima(self, shingles: Hashes) -> npt.NDArray[np.uint32]:
        """Return the least hash under each function (..., hashes) of sets of shingles (..., n)."""
        short = (shingles >> np.uint64(32)).astype(np.uint32)[..., None, :]
        least = [
            (short[..., at : at + BLOCK] * self._scale + self._shift).min(axis=-1)
            for at in range(0, short.shape[-1], BLOCK)
        ]
        return np.asarray(np.minimum.reduce(least))

    def keys(self, minima: npt.NDArray[np.uint32]) -> Hashes:
        """Return one key per band (..., bands) of minima (..., hashes)."""
        rows = minima.reshape(*minima.shape[:-1], self.config.bands, self.config.rows)
        keys = np.zeros(rows.shape[:-1], dtype=np.uint64)
        for row in range(self.config.rows):
            keys = mix(keys * STEP + rows[..., row])
        return keys

    def signature(self, text: str) -> Hashes:
        """Return the key of each band: all that a text's near-duplicates are found by."""
        return self.keys(self.minima(self.shingles(text)))

    def similarity(self, a: str, b: str) -> float:
        """Return the share of hashes that agree: an estimate of J with standard error sqrt(J (1 - J) / num_hashes)."""
        return float((self.minima(self.shingles(a)) == self.minima(self.shingles(b))).mean())

    def expected_recall(self, jaccard: float) -> float:
        """Return 1 - (1 - J^rows)^bands."""
        return float(1 - (1 - jaccard**self.config.rows) ** self.config.bands)


def jaccard(a: Hashes, b: Hashes) -> float:
    """Return |A & B| / |A | B| of two arrays as sets; of two empty ones 1."""
    union = len(np.union1d(a, b))
    return len(np.intersect1d(a, b)) / union if union else 1.0
