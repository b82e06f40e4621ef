"""word2vec: a vector for each word, learned by telling its neighbours from words drawn at random."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hanok.classic import CLASSICS
from hanok.classic.chunks import Noise, batches
from hanok.classic.problem import PROBLEMS
from hanok.classic.word_vectors import WordVectors
from hanok.core.artifact import atomic_write
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.core.rng import derive

TENSORS, ABOUT = "word2vec.safetensors", "word2vec.json"
RATES = {"skipgram": 0.025, "cbow": 0.075}
SHOWN = 20  # batches between two whose loss is measured

Report = Callable[[float, float], None]


@CLASSICS.register("word2vec", paper="https://arxiv.org/abs/1310.4546")
class Word2Vec(WordVectors):
    """Skip-gram predicts the words around each word, CBOW each word from the mean of those around it.

    Words that stand in the same company get vectors of the same direction, so that neighbours are alike in meaning, and
    differences of vectors are relations: b - a + c answers "a is to b as c is to ...".
    """

    class Config(PartConfig):
        """How to train; `rate` falls linearly to `last_rate`, and is 0.025 for skip-gram, 0.075 for CBOW unless given.

        `window` is the largest distance, drawn anew for each word; `negative` the drawn words per true one, in
        proportion to count^power; `sample` the share above which words are left out at random (0: none).
        """

        kind: Literal["word2vec"] = "word2vec"
        predict: Literal["skipgram", "cbow"] = "skipgram"
        dim: int = Field(default=100, ge=1)
        window: int = Field(default=5, ge=1, le=100)
        negative: int = Field(default=5, ge=1)
        power: float = Field(default=0.75, ge=0)
        sample: float = Field(default=1e-3, ge=0)
        min_count: int = Field(default=5, ge=1)
        epochs: int = Field(default=5, ge=1)
        rate: float | None = Field(default=None, gt=0)
        last_rate: float = Field(default=1e-4, ge=0)
        seed: int = 0

    def __init__(self, config: Config, words: Sequence[str], counts: Sequence[int] | None = None) -> None:
        self.config = config
        generator = torch.Generator().manual_seed(derive(config.seed, "vectors"))
        super().__init__(words, (torch.rand(len(words), config.dim, generator=generator) - 0.5) / config.dim)
        self.outputs = torch.zeros(len(words), config.dim)
        self.counts = torch.tensor(counts if counts is not None else [1] * len(words))

    @classmethod
    def fit(cls, config: Config, sentences: Iterable[Sequence[str]], report: Report | None = None) -> Word2Vec:
        """Learn from sentences, each a list of words; `report` is told the share done and the loss per pair.

        The result depends on nothing but the sentences, the configuration and the number of threads.
        """
        sentences = list(sentences)
        counted = Counter(word for sentence in sentences for word in sentence)
        kept = sorted((word for word in counted if counted[word] >= config.min_count), key=lambda w: (-counted[w], w))
        if len(kept) < 2:
            raise UsageError(
                f"fewer than two words come {config.min_count} times or more: give more text, or a lower min_count"
            )
        model = cls(config, kept, [counted[word] for word in kept])
        model.train(sentences, report)
        return model

    def train(self, sentences: Iterable[Sequence[str]], report: Report | None = None) -> None:
        """Train on sentences for the configured epochs; words outside the vocabulary are passed over."""
        config = self.config
        ids = [[self.ids[word] for word in sentence if word in self.ids] for sentence in sentences]
        words = torch.tensor([id for sentence in ids for id in sentence], dtype=torch.int64)
        if not len(words):
            raise UsageError("none of these sentences holds a known word")
        numbers = torch.repeat_interleave(torch.arange(len(ids)), torch.tensor([len(sentence) for sentence in ids]))
        text, noise = torch.stack([words, numbers]), Noise.of(self.counts, config.sample, config.power)
        generator = torch.Generator().manual_seed(derive(config.seed, "training"))
        first, make, step = config.rate or RATES[config.predict], PROBLEMS[config.predict], 0
        for epoch in range(config.epochs):
            for batch, share in batches(text, noise, config.window, generator):
                done = (epoch + share) / config.epochs
                problem = make(batch, config.negative)
                if report is not None and step % SHOWN == 0:
                    report(done, problem.loss(self.vectors, self.outputs))
                problem.descend(self.vectors, self.outputs, max(first * (1 - done), config.last_rate))
                step += 1

    def save(self, path: str | Path) -> None:
        """Write `word2vec.safetensors` and `word2vec.json` into a directory."""
        path = Path(path)
        tensors = {"vectors": self.vectors, "outputs": self.outputs, "counts": self.counts}
        atomic_write(path / TENSORS, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        about = {"config": self.config.to_dict(), "words": self.words}
        atomic_write(path / ABOUT, json.dumps(about, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Word2Vec:
        """Read a model that `save` has written."""
        path = Path(path)
        try:
            about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            tensors = load_file(path / TENSORS)
            model = cls(cls.Config.parse(about["config"], where=str(path / ABOUT)), about["words"])
            for name in ("vectors", "outputs", "counts"):
                if tensors[name].shape != getattr(model, name).shape:
                    raise ValueError(f"{name} has the shape {tuple(tensors[name].shape)}")
                setattr(model, name, tensors[name])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is not a saved word2vec model: {error}") from None
        return model

    @classmethod
    def of(cls, vectors: WordVectors) -> Word2Vec:
        """Return a model around vectors from elsewhere; its outputs, which they lack, are zeros."""
        model = cls(cls.Config(dim=vectors.vectors.shape[1]), vectors.words)
        model.vectors = vectors.vectors.float()
        return model
