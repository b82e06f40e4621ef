"""Words as vectors: what is near, what relates as what, and the text format in which programs exchange them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError, suggest

Question = tuple[str, str, str, str]


class WordVectors:
    """A vector (d) for each word; likeness is the cosine."""

    def __init__(self, words: Sequence[str], vectors: Tensor) -> None:
        self.words = list(words)
        self.ids = {word: id for id, word in enumerate(self.words)}
        if len(self.ids) != len(self.words) or not self.words:
            raise UsageError("word vectors need at least one word, and each only once")
        if vectors.ndim != 2 or len(vectors) != len(self.words):
            raise UsageError(f"{len(self.words)} words need as many vectors, not {tuple(vectors.shape)}")
        self.vectors = vectors

    def __getitem__(self, word: str) -> Tensor:
        return self.vectors[self.id(word)]

    def id(self, word: str) -> int:
        """Return a word's row, or say which known word is nearest in spelling."""
        if word not in self.ids:
            raise UsageError(f"the word {word!r} was not learned{suggest(word, self.words)}")
        return self.ids[word]

    def neighbours(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """Return the n words of the highest cosine with a word, and that cosine."""
        unit = normalize(self.vectors, dim=1)
        return self._best(unit @ unit[self.id(word)], [word], n)

    def analogy(self, a: str, b: str, c: str, n: int = 1) -> list[tuple[str, float]]:
        """Return the n words d for which a is to b as c is to d: of the highest cosine with b - a + c (3CosAdd).

        All vectors have length 1, and the three words of the question are no answers.
        """
        unit = normalize(self.vectors, dim=1)
        x, y, z = (unit[self.id(word)] for word in (a, b, c))
        return self._best(unit @ normalize(y - x + z, dim=0), [a, b, c], n)

    def accuracy(self, questions: Sequence[Question]) -> tuple[float, int]:
        """Return the share of analogies whose first answer is right, and how many have known words only."""
        known = [[self.ids[word] for word in question] for question in questions if set(question) <= set(self.ids)]
        if not known:
            raise UsageError("no question has only words that were learned")
        unit, hits = normalize(self.vectors, dim=1), 0
        for ids in torch.tensor(known).split(1024):
            scores = (unit[ids[:, 1]] - unit[ids[:, 0]] + unit[ids[:, 2]]) @ unit.T
            hits += int((scores.scatter(1, ids[:, :3], -torch.inf).argmax(1) == ids[:, 3]).sum())
        return hits / len(known), len(known)

    def to_text(self, path: str | Path) -> None:
        """Write the text format of the original word2vec, which gensim reads: a line of sizes, then a line per word."""
        for word in self.words:
            if not word or word.split() != [word]:
                raise UsageError(f"the text format separates by spaces, so it cannot hold the word {word!r}")
        rows = zip(self.words, self.vectors.tolist(), strict=True)
        lines = [f"{len(self.words)} {self.vectors.shape[1]}"]
        lines += [" ".join([word, *(f"{value:.9g}" for value in row)]) for word, row in rows]
        atomic_write(Path(path), "\n".join(lines) + "\n")

    @classmethod
    def from_text(cls, path: str | Path) -> WordVectors:
        """Read the text format; nine digits give back every float32."""
        words: list[str] = []
        rows: list[list[float]] = []
        try:
            with Path(path).open(encoding="utf-8") as lines:
                count, dim = (int(part) for part in next(lines, "").split())
                for line in lines:
                    word, *values = line.rstrip().split(" ")
                    if len(values) != dim:
                        raise ValueError(f"{len(values)} numbers instead of {dim}")
                    rows.append([float(value) for value in values])
                    words.append(word)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {error}") from None
        except ValueError as error:
            raise UsageError(f"{path}, line {len(rows) + 2}: not word vectors in the text format: {error}") from None
        if len(words) != count:
            raise UsageError(
                f"{path} announces {count} words and holds {len(words)}: it is cut off, or two were joined"
            )
        return cls(words, torch.tensor(rows).view(count, dim))

    def _best(self, scores: Tensor, but: Sequence[str], n: int) -> list[tuple[str, float]]:
        if n < 1:
            raise UsageError(f"ask for at least one word, not {n}")
        scores[[self.ids[word] for word in but]] = -torch.inf
        values, ids = scores.topk(min(n, len(self.words)))
        found = zip(values.tolist(), ids.tolist(), strict=True)
        return [(self.words[id], value) for value, id in found if value > -torch.inf]


def read_analogies(path: str | Path) -> dict[str, list[Question]]:
    """Read questions in the format of Mikolov et al. 2013: four words a line, below lines `: section`."""
    sections: dict[str, list[Question]] = {}
    section = "all"
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words[:1] == [":"]:
            section = " ".join(words[1:])
        elif len(words) == 4:
            sections.setdefault(section, []).append((words[0], words[1], words[2], words[3]))
        elif words:
            raise UsageError(f"{path}, line {number}: an analogy has four words, or ': section': {line!r:.80}")
    if not sections:
        raise UsageError(f"{path} holds no analogies")
    return sections
