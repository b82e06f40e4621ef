"""The n-gram model, on token ids: the next token from the order - 1 tokens before it, by counting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from hanok.classic import CLASSICS
from hanok.classic.counts import Counts, Floats, Ints, lay_out, locate, predicted
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Tables
from hanok.classic.smoothing.kneser_ney import KneserNey
from hanok.core.artifact import atomic_write
from hanok.core.config import PartConfig, spec_type
from hanok.core.errors import UsageError


@CLASSICS.register("ngram", paper="https://doi.org/10.1002/j.1538-7305.1948.tb01338.x")
class NGram:
    """Counts of token sequences, and a smoothing that says what to make of those never seen.

    Documents are padded at the front with a start symbol that is never predicted. Documents and contexts are sequences
    of token ids; `logprobs` of a tensor (B, T) is that of any `LanguageModel`.
    """

    class Config(PartConfig):
        """The order, and how counts become probabilities; `discounts` is short for those of Kneser-Ney."""

        kind: Literal["ngram"] = "ngram"
        order: int = Field(default=4, ge=1, le=8)
        vocab_size: int = Field(ge=1)
        smoothing: spec_type(SMOOTHINGS) = KneserNey.Config()  # type: ignore[valid-type]

        @model_validator(mode="before")
        @classmethod
        def _short(cls, data: Any) -> Any:
            if not isinstance(data, dict) or "discounts" not in data:
                return data
            data = dict(data)
            discounts = data.pop("discounts")
            if discounts is not None:
                if "smoothing" in data:
                    raise ValueError("give discounts within smoothing")
                data["smoothing"] = {"kind": "kneser_ney", "discounts": discounts}
            return data

    def __init__(self, config: Config) -> None:
        self.config = config
        self.smoothing = SMOOTHINGS[config.smoothing.kind](config.smoothing, config.order)
        self._keys: list[Ints] = []  # see counts.Level
        self._tables = Tables([], [], 1 / config.vocab_size)

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens."""
        return self.config.vocab_size

    @property
    def learned(self) -> dict[str, Any]:
        """Return the parameters that the smoothing has estimated, as JSON-able data."""
        return self._tables.learned

    @property
    def sizes(self) -> list[int]:
        """Return how many different k-grams it holds, by k."""
        return [len(keys) for keys in self._keys]

    def fit(
        self,
        documents: Iterable[Sequence[int] | Ints],
        held_out: Iterable[Sequence[int] | Ints] | None = None,
    ) -> NGram:
        """Count n-grams in documents of token ids and return the model.

        `held_out` documents serve the smoothings that estimate parameters on text which was not counted.
        """
        counts = Counts.of(documents, self.config.order, self.vocab_size)
        places = None if held_out is None else predicted(counts.keys, held_out, self.vocab_size)
        self._keys, self._tables = counts.keys, self.smoothing.fit(counts, places)
        return self

    @overload
    def logprobs(self, tokens: torch.Tensor, /) -> torch.Tensor: ...

    @overload
    def logprobs(self, tokens: Sequence[int] | Ints, /) -> Floats: ...

    def logprobs(self, tokens: Any, /) -> Any:
        """Return the natural log-probability of each token of a document given all before it.

        Of a tensor of documents (B, T), those of all tokens but the first, as (B, T-1) float64; what is impossible has
        -inf.
        """
        rows = tokens if isinstance(tokens, torch.Tensor) else None
        if rows is None:
            return self._logs([tokens])
        if rows.ndim != 2 or rows.dtype != torch.int64 or not rows.shape[1]:
            raise UsageError(f"tokens must be int64 of shape (B, T), not {rows.dtype} {tuple(rows.shape)}")
        logs = torch.from_numpy(self._logs(list(rows.cpu().numpy())))
        return logs.view(rows.shape)[:, 1:].contiguous()

    def distribution(self, context: Sequence[int] | Ints) -> Floats:
        """Return the probability of every token behind a context."""
        size, width = self.vocab_size, self.config.order
        history = lay_out([context], width, size)
        rows = np.empty((size, width), dtype=np.int64)
        rows[:, :-1] = history[len(history) - (width - 1) :]
        rows[:, -1] = np.arange(size)
        return self._probabilities(rows.reshape(-1))[width - 1 :: width]

    def perplexity(self, documents: Iterable[Sequence[int] | Ints]) -> float:
        """Return exp(-mean ln p) over all tokens; infinite if any of them is impossible."""
        logs = self._logs(documents)
        if not len(logs):
            raise UsageError("perplexity needs at least one token of text")
        return float(np.exp(-logs.mean()))

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

    def unseen(self, documents: Iterable[Sequence[int] | Ints]) -> list[dict[str, float]]:
        """Return, by order, the share of positions whose context was never seen, and whose whole n-gram was not.

        That share is why orders cannot grow: contexts get so many that nearly all of a new text's are new.
        """
        places = predicted(self._keys, documents, self.vocab_size)
        base, rows = self.vocab_size + 1, []
        for k, (keys, context, node) in enumerate(zip(self._keys, places.contexts, places.nodes, strict=True), 1):
            known = np.unique(keys[keys % base < self.vocab_size] // base)  # the end of a document is no context
            new = 1 - np.isin(context, known).mean()
            rows.append({"order": k, "contexts": float(new), "ngrams": float((node < 0).mean())})
        return rows

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for k, (keys, prob, rest) in enumerate(zip(self._keys, self._tables.prob, self._tables.rest, strict=True), 1):
            arrays |= {f"{k}.keys": keys, f"{k}.prob": prob, f"{k}.rest": rest}
        about = {"base": self._tables.base, "learned": self.learned}
        metadata = {"config": json.dumps(self.config.to_dict()), "about": json.dumps(about)}
        atomic_write(Path(path), save(arrays, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> NGram:
        """Read a model that `save` has written, or that lies in a directory as `ngram.safetensors`."""
        path = Path(path)
        path = path / "ngram.safetensors" if path.is_dir() else path
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
            about, arrays = json.loads(metadata["about"]), load_file(path)
            model = cls(cls.Config.model_validate_json(metadata["config"]))
            orders = range(1, model.config.order + 1)
            model._keys = [arrays[f"{k}.keys"] for k in orders]
            prob, rest = ([arrays[f"{k}.{name}"] for k in orders] for name in ("prob", "rest"))
            model._tables = Tables(prob, rest, about["base"], about["learned"])
            if [len(keys) for keys in model._keys] != [len(each) for each in prob]:
                raise ValueError("keys and probabilities do not belong together")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UsageError(f"{path} is not a saved n-gram model: {error}") from None
        return model

    def _logs(self, documents: Iterable[Sequence[int] | Ints]) -> Floats:
        padded = lay_out(documents, self.config.order, self.vocab_size)
        with np.errstate(divide="ignore"):
            return np.log(self._probabilities(padded)[padded < self.vocab_size])

    def _probabilities(self, tokens: Ints) -> Floats:
        """Return p(token | the tokens before it) at every position of padded tokens."""
        if not self._keys:
            raise UsageError("the n-gram has not learned yet: call fit, or load one")
        places, tables = locate(self._keys, tokens, self.vocab_size), self._tables
        result = np.full(len(tokens), tables.base)
        for node, context, prob, rest in zip(places.nodes, places.contexts, tables.prob, tables.rest, strict=True):
            down = np.where(context >= 0, rest[np.maximum(context, 0)], 1.0) * result
            result = np.where(node >= 0, prob[np.maximum(node, 0)], down)
        return result
