"""The n-gram model with interpolated Kneser-Ney smoothing, on token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from hanok.classic import CLASSICS
from hanok.core.artifact import atomic_write
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@CLASSICS.register("ngram", paper="https://doi.org/10.1109/ICASSP.1995.479394")
class NGram:
    """Interpolated Kneser-Ney: each order discounts its counts and hands the rest to the order below.

    p_k(w | h) = max(c_k(h w) - D_k, 0) / c_k(h .) + D_k N(h .) / c_k(h .) * p_{k-1}(w | h'), where h' is h without its
    first token and N(h .) the number of different tokens behind h. c is the count at the highest order and, below it,
    the number of different tokens before (continuation counts). p_0 is uniform, so that no token is impossible.
    Documents are padded at the front with a start symbol that is never predicted.
    """

    class Config(PartConfig):
        """The order, and one discount per order from 1 up (none: n1 / (n1 + 2 n2), estimated from the counts)."""

        kind: Literal["ngram"] = "ngram"
        order: int = Field(default=4, ge=1, le=8)
        vocab_size: int = Field(ge=1)
        discounts: tuple[float, ...] | None = None

    def __init__(self, config: Config) -> None:
        if config.discounts is not None and len(config.discounts) != config.order:
            raise UsageError(f"an n-gram of order {config.order} needs as many discounts: {list(config.discounts)}")
        if config.discounts is not None and not all(0 <= discount <= 1 for discount in config.discounts):
            raise UsageError(f"discounts lie between 0 and 1: {list(config.discounts)}")
        self.config = config
        # Level k holds the different k-grams, sorted: the key is (index of the first k-1 tokens) * (V + 1) + last.
        self._keys: list[Ints] = []
        self._gain: list[Floats] = []  # max(c - D, 0) / total of the context, per k-gram
        self._rest: list[Floats] = []  # what a context of k - 1 tokens hands down, per context

    def fit(self, documents: Iterable[Sequence[int] | Ints]) -> NGram:
        """Count n-grams in documents of token ids and return the model."""
        tokens = self._lay_out(documents)
        real = np.flatnonzero(tokens < self.config.vocab_size)  # positions that are predicted
        if not real.size:
            raise UsageError("an n-gram needs at least one token to learn from")
        order, base = self.config.order, self.config.vocab_size + 1
        nodes = np.zeros_like(tokens)  # index of the k-gram that ends at each position
        levels = []
        for k in range(1, order + 1):
            before = np.concatenate([np.zeros(1, dtype=np.int64), nodes[:-1]]) if k > 1 else np.zeros_like(tokens)
            keys, nodes = np.unique(before * base + tokens, return_inverse=True)
            levels.append((keys, nodes))
        self._keys = [keys for keys, _ in levels]
        for k, (keys, nodes) in enumerate(levels, 1):
            if k == order:
                counts = np.bincount(nodes[real], minlength=len(keys))
            else:
                # One for each different (k+1)-gram that ends in this k-gram.
                longer = levels[k][1][real]
                _, first = np.unique(longer, return_index=True)
                counts = np.bincount(nodes[real[first]], minlength=len(keys))
            self._smooth(k, keys // base, counts, len(self._keys[k - 2]) if k > 1 else 1)
        return self

    def logprobs(self, tokens: Sequence[int] | Ints) -> Floats:
        """Return the natural log-probability of each token of a document given all before it."""
        padded = self._lay_out([tokens])
        return np.log(self._probabilities(padded)[self.config.order - 1 :])

    def distribution(self, context: Sequence[int] | Ints) -> Floats:
        """Return the probability of every token behind a context."""
        size, width = self.config.vocab_size, self.config.order
        history = self._lay_out([context])
        rows = np.empty((size, width), dtype=np.int64)
        rows[:, :-1] = history[len(history) - (width - 1) :]
        rows[:, -1] = np.arange(size)
        return self._probabilities(rows.reshape(-1))[width - 1 :: width]

    def bits_per_byte(self, documents: Iterable[Sequence[int] | Ints], byte_lengths: npt.NDArray[Any]) -> float:
        """Return the bits spent per byte of text; tokens of no bytes (specials) are read but not counted."""
        bits, size = 0.0, 0
        for document in documents:
            lengths = byte_lengths[np.asarray(document, dtype=np.int64)]
            bits -= float(self.logprobs(document)[lengths > 0].sum()) / np.log(2)
            size += int(lengths.sum())
        if not size:
            raise UsageError("bits per byte need at least one byte of text")
        return bits / size

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for k, (keys, gain, rest) in enumerate(zip(self._keys, self._gain, self._rest, strict=True), 1):
            arrays |= {f"{k}.keys": keys, f"{k}.gain": gain, f"{k}.rest": rest}
        atomic_write(Path(path), save(arrays, metadata={"config": self.config.model_dump_json()}))

    @classmethod
    def load(cls, path: str | Path) -> NGram:
        """Read a model that `save` has written."""
        try:
            with safe_open(path, framework="numpy") as file:
                config = cls.Config.model_validate_json((file.metadata() or {})["config"])
            arrays = load_file(path)
            model = cls(config)
            for k in range(1, config.order + 1):
                model._keys.append(arrays[f"{k}.keys"])
                model._gain.append(arrays[f"{k}.gain"])
                model._rest.append(arrays[f"{k}.rest"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UsageError(f"{path} is not a saved n-gram model: {error}") from None
        return model

    def _lay_out(self, documents: Iterable[Sequence[int] | Ints]) -> Ints:
        """Return documents end to end, each behind order - 1 start symbols, whose id is V."""
        size = self.config.vocab_size
        pad = np.full(self.config.order - 1, size, dtype=np.int64)
        pieces = []
        for document in documents:
            ids = np.asarray(document, dtype=np.int64)
            if ids.size and not 0 <= ids.min() <= ids.max() < size:
                raise UsageError(f"a document holds a token id outside the vocabulary of {size}")
            pieces += [pad, ids]
        return np.concatenate([*pieces, np.zeros(0, dtype=np.int64)])

    def _smooth(self, k: int, context: Ints, counts: Ints, contexts: int) -> None:
        """Turn the counts of level k into what each k-gram gains and each context hands down."""
        discount = self._discount(k, counts)
        total = np.bincount(context, weights=counts, minlength=contexts)
        different = np.bincount(context, weights=counts > 0, minlength=contexts)
        with np.errstate(invalid="ignore"):
            rest = discount * different / total
            gain = np.maximum(counts - discount, 0) / total[context]
        # A context with nothing behind it (the end of a document) hands everything down.
        self._rest.append(np.where(total > 0, rest, 1.0))
        self._gain.append(np.where(total[context] > 0, gain, 0.0))

    def _discount(self, k: int, counts: Ints) -> float:
        if self.config.discounts is not None:
            return self.config.discounts[k - 1]
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        # The leaving-one-out estimate; without any n-gram that was seen once there is nothing to learn it from.
        return once / (once + 2 * twice) if once else 0.5

    def _probabilities(self, tokens: Ints) -> Floats:
        """Return p(token | the tokens before it) at every position of padded tokens."""
        base = self.config.vocab_size + 1
        result = np.full(len(tokens), 1.0 / self.config.vocab_size)
        context = np.zeros(len(tokens), dtype=np.int64)  # index of the k-1 tokens before each position, -1 if unseen
        nodes = context
        for k, (keys, gain, rest) in enumerate(zip(self._keys, self._gain, self._rest, strict=True), 1):
            if k > 1:
                context = np.concatenate([np.full(1, -1), nodes[:-1]])
            wanted = context * base + tokens
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found = (keys[place] == wanted) & (context >= 0)
            nodes = np.where(found, place, -1)
            known = context >= 0
            down = np.where(known, rest[np.maximum(context, 0)], 1.0)
            result = np.where(found, gain[place], 0.0) + down * result
        return result
