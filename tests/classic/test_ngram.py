from __future__ import annotations

import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm import KneserNeyInterpolated
from nltk.util import everygrams

from hanok.classic import CLASSICS
from hanok.classic.ngram import NGram
from hanok.core.errors import UsageError

V = 6
DOCUMENTS = st.lists(st.lists(st.integers(0, V - 1), max_size=12), min_size=1, max_size=5).filter(any)


def fit(documents: list[list[int]], order: int, discounts: tuple[float, ...] | None = None, vocab: int = V) -> NGram:
    return NGram(NGram.Config(order=order, vocab_size=vocab, discounts=discounts)).fit(documents)


def reference(
    documents: list[list[int]], order: int, discounts: tuple[float, ...], history: tuple[int, ...], word: int
) -> float:
    """The definition, read off the formula with dictionaries and recursion."""
    grams: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for document in documents:
        padded = [V] * (order - 1) + document
        for end in range(order - 1, len(padded)):
            for k in range(1, order + 1):
                grams[k][tuple(padded[end - k + 1 : end + 1])] += 1

    def count(gram: tuple[int, ...]) -> int:
        if len(gram) == order:
            return grams[order][gram]
        return sum(1 for longer in grams[len(gram) + 1] if longer[1:] == gram)

    def p(word: int, history: tuple[int, ...]) -> float:
        k = len(history) + 1
        below = p(word, history[1:]) if history else 1 / V
        counts = {w: count((*history, w)) for w in range(V)}
        total = sum(counts.values())
        if total == 0:
            return below
        rest = discounts[k - 1] * sum(c > 0 for c in counts.values()) / total
        return max(counts[word] - discounts[k - 1], 0) / total + rest * below

    padded = ([V] * (order - 1) + list(history))[len(history) :] if order > 1 else []
    return p(word, tuple(padded))


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(1, 4), st.lists(st.integers(0, V - 1), max_size=5))
def test_equals_the_definition(documents: list[list[int]], order: int, history: list[int]) -> None:
    discounts = (0.3, 0.5, 0.6, 0.75)[:order]
    got = fit(documents, order, discounts).distribution(history)
    want = [reference(documents, order, discounts, tuple(history), word) for word in range(V)]
    np.testing.assert_allclose(got, want, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.integers(1, 5), st.lists(st.integers(0, V - 1), max_size=6))
def test_sums_to_one_behind_any_history(documents: list[list[int]], order: int, history: list[int]) -> None:
    distribution = fit(documents, order).distribution(history)
    assert distribution.min() > 0
    assert distribution.sum() == pytest.approx(1, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(DOCUMENTS, st.integers(1, 4), st.lists(st.integers(0, V - 1), min_size=1, max_size=8))
def test_log_probs_are_those_of_the_distribution(documents: list[list[int]], order: int, text: list[int]) -> None:
    model = fit(documents, order)
    want = [np.log(model.distribution(text[:i])[token]) for i, token in enumerate(text)]
    np.testing.assert_allclose(model.logprobs(text), want, rtol=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_equals_nltk(order: int) -> None:
    """nltk has one discount for the orders above 1, none at order 1, and stops there (ours goes on to uniform).

    With the discounts (0, d, d) the definitions meet: the unigram then hands nothing down. Every token must have been
    seen, because nltk's unigram gives an unseen one the probability 0. Its start symbols are ours; it has no other.
    """
    rng = np.random.default_rng(0)
    documents = [[0, 1, 2, 3, 4, 5], *(rng.integers(0, V, rng.integers(3, 15)).tolist() for _ in range(12))]
    ours = fit(documents, order, (0.0, *[0.1] * (order - 1)))
    padded = [["<s>"] * (order - 1) + [str(token) for token in document] for document in documents]
    # As ours: no n-gram may end in a start symbol, which is never predicted.
    grams = [[gram for gram in everygrams(text, max_len=order) if gram[-1] != "<s>"] for text in padded]
    theirs = KneserNeyInterpolated(order, discount=0.1)
    theirs.fit(grams, [word for text in padded for word in text])
    compared = 0
    for history in ([], [0], [3, 1], [2, 2], [5, 0, 1]):
        context = (["<s>"] * order + [str(token) for token in history])[-(order - 1) :]
        if not theirs.counts[context].N():
            continue  # nltk divides by zero behind a history that it has not seen
        want = [theirs.score(str(word), context) for word in range(V)]
        np.testing.assert_allclose(ours.distribution(history), want, rtol=1e-12)
        compared += 1
    assert compared >= 3


def test_san_francisco() -> None:
    """What the method is for: a frequent token that follows only one other is not likely elsewhere."""
    san, francisco, glasses, the, my, new = range(6)
    documents = [[san, francisco]] * 20 + [[the, glasses], [my, glasses], [new, glasses]]
    model = fit(documents, 2, (0.1, 0.75))
    unseen = model.distribution([francisco])
    assert unseen[glasses] > unseen[francisco]
    raw = Counter(token for document in documents for token in document)
    assert raw[francisco] > raw[glasses]  # the control: raw counts say the opposite


def test_bits_per_byte_by_hand() -> None:
    model = fit([[0, 1, 0, 1, 2]], 1, (0.0,))
    lengths = np.array([1, 3, 0, 1, 1, 1])
    bits = -2 * np.log2(2 / 5) * 2
    assert model.bits_per_byte([[0, 1], [0, 1, 2]], lengths) == pytest.approx(bits / 8)
    with pytest.raises(UsageError, match="at least one byte"):
        model.bits_per_byte([[2]], lengths)


def test_saved_and_loaded_models_agree(tmp_path: Path) -> None:
    model = fit([[0, 1, 2, 0, 1, 3], [4, 0, 1]], 3)
    model.save(tmp_path / "ngram.safetensors")
    again = NGram.load(tmp_path / "ngram.safetensors")
    assert again.config == model.config
    assert again.logprobs([0, 1, 5, 2]).tobytes() == model.logprobs([0, 1, 5, 2]).tobytes()
    (tmp_path / "bad").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(UsageError, match="not a saved n-gram"):
        NGram.load(tmp_path / "bad")


def test_higher_orders_help_and_a_million_tokens_take_seconds() -> None:
    rng = np.random.default_rng(0)
    # A noisy second-order source: the next token depends on the last two.
    table = rng.integers(0, 200, (200, 200))
    tokens = [0, 0]
    for noise, other in zip(rng.random(250_000), rng.integers(0, 200, 250_000), strict=True):
        tokens.append(int(other) if noise < 0.2 else int(table[tokens[-2], tokens[-1]]))
    train, test = tokens[:240_000], tokens[240_000:]
    started = time.process_time()
    losses = [-fit([train], order, vocab=200).logprobs(test).mean() for order in (1, 2, 3)]
    assert time.process_time() - started < 20
    assert losses[2] < losses[1] < losses[0]


def test_mistakes_are_explained() -> None:
    with pytest.raises(UsageError, match="at least one token"):
        fit([[]], 2)
    with pytest.raises(UsageError, match="outside the vocabulary of 6"):
        fit([[7]], 2)
    with pytest.raises(UsageError, match="as many discounts"):
        fit([[1]], 2, (0.5,))
    with pytest.raises(UsageError, match="between 0 and 1"):
        fit([[1]], 1, (1.5,))
    assert list(CLASSICS) == ["ngram", "word2vec"] and CLASSICS["ngram"] is NGram
