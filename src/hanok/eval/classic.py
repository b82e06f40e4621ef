"""Models before the network, measured as those after it: an n-gram on text, word vectors on analogies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hanok.classic.directory import kind_of, load_classic
from hanok.classic.ngram import NGram
from hanok.classic.word_vectors import WordVectors
from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.eval.generate import Question, Sample, answer_questions
from hanok.eval.likelihood import Reader
from hanok.eval.score import SCORES
from hanok.model.weights import TokenIds
from hanok.text.tokenizer import Tokenizer

WINDOW = 4096  # an n-gram looks back a few tokens only; this bounds what is held at once


@dataclass(frozen=True)
class Extent:
    """The sizes of a model that has no configuration of a network."""

    vocab: int
    context: int


@dataclass(frozen=True)
class CountedText:
    """An n-gram model with the tokenizer whose ids it has counted."""

    model: NGram
    tokenizer: Tokenizer | None

    @property
    def config(self) -> Extent:
        """Return the model's sizes."""
        return Extent(self.model.vocab_size, WINDOW)

    @property
    def ids(self) -> TokenIds:
        """Return the tokens that documents begin and end with."""
        if self.tokenizer is None:
            return TokenIds()
        eos = self.tokenizer.eos_id
        return TokenIds(self.tokenizer.bos_id, () if eos is None else (eos,), self.tokenizer.pad_id)

    def logprobs(self, tokens: torch.Tensor, /) -> torch.Tensor:
        """Return ln p of all tokens but the first, none of which may be impossible."""
        found = self.model.logprobs(tokens)
        if bool(found.isinf().any()):
            raise UsageError(
                "this n-gram finds a part of the text impossible (maximum likelihood, k = 0, does that to what it has "
                "not seen), so its bits are infinite: choose a smoothing that leaves something to the unseen"
            )
        return found


Subject = LLM | CountedText | WordVectors


def load(path: Path) -> Subject:
    """Load what a directory holds: a network, an n-gram, or word vectors."""
    if kind_of(path) is None:
        return LLM.load(path)
    model = load_classic(path)
    if not isinstance(model, NGram):
        assert isinstance(model, WordVectors)
        return model
    tokenizer = Tokenizer.load(path) if (path / "tokenizer.json").is_file() else None
    if tokenizer is not None and tokenizer.vocab_size != model.vocab_size:
        raise UsageError(f"{path}: the n-gram has counted {model.vocab_size} ids, the tokenizer {tokenizer.vocab_size}")
    return CountedText(model, tokenizer)


def reader(model: Subject) -> Reader:
    """Return a model as something that predicts text."""
    if isinstance(model, WordVectors):
        raise UsageError("word vectors predict no text: measure them on analogies (tasks) instead")
    return model


def answers(model: Subject, questions: Sequence[Question], **options: Any) -> dict[str, list[Sample]]:
    """Let a model answer, with the options of `answer_questions`.

    To word vectors, which have none, a question is three words `a b c`, and d the answer.
    """
    if isinstance(model, LLM):
        return answer_questions(model, questions, **options)
    if isinstance(model, CountedText):
        raise UsageError("an n-gram answers no tasks: measure it on held-out text (tokens) instead")
    samples: dict[str, list[Sample]] = {}
    for question in questions:
        samples.setdefault(question.task, []).append(_analogy(model, question))
    return samples


def _analogy(model: WordVectors, question: Question) -> Sample:
    words = question.prompt.split()
    if len(words) != 3 or question.task not in SCORES:
        raise UsageError(
            f"word vectors answer rows such as {{'prompt': 'man king woman', 'answer': 'queen'}}, not the task "
            f"{question.task!r} with {question.prompt!r:.60}"
        )
    # A word that was never learned is a wrong answer, not a reason to leave the question out.
    said = model.analogy(words[0], words[1], words[2])[0][0] if set(words) <= set(model.ids) else ""
    score = SCORES[question.task](said, question.answer)
    return Sample(question.prompt, question.answer, said, score, "stop", 1)
