"""Every smoothing against nltk.lm or against its definition, and what they are for: contexts that were never seen."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm import MLE, Laplace, Lidstone
from nltk.lm import smoothing as theirs
from nltk.lm.models import InterpolatedLanguageModel
from nltk.util import everygrams

from hanok.classic.choose import choose
from hanok.classic.counts import Counts, predicted
from hanok.classic.ngram import NGram
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.jelinek_mercer import EDGE, JelinekMercer
from hanok.classic.smoothing.katz import good_turing
from hanok.classic.smoothing.modified_kneser_ney import three
from hanok.core.errors import UsageError
from hanok.core.language_model import LanguageModel

V = 6
DOCUMENTS = st.lists(st.lists(st.integers(0, V - 1), max_size=12), min_size=1, max_size=5).filter(any)
KINDS = sorted({"kneser_ney", "modified_kneser_ney", "witten_bell", "jelinek_mercer", "katz", "add_k"})
FREE = [*KINDS[1:], {"kind": "add_k", "k": 0.01}, {"kind": "add_k", "k": None}]


def corpus(seed: int = 0, n: int = 12, vocab: int = V) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab + 1)
    return [rng.choice(vocab, rng.integers(3, 15), p=weights / weights.sum()).tolist() for _ in range(n)]


def fit(documents, order, smoothing, vocab=V, held_out=None) -> NGram:
    return NGram(NGram.Config(order=order, vocab_size=vocab, smoothing=smoothing)).fit(documents, held_out)


def padded(documents, order):
    return [["<s>"] * (order - 1) + [str(token) for token in document] for document in documents]


def nltk_fit(model, documents, order):
    """Fit nltk's model as ours: no n-gram may end in a start symbol, which is never predicted."""
    texts = padded(documents, order)
    grams = [[gram for gram in everygrams(text, max_len=order) if gram[-1] != "<s>"] for text in texts]
    model.fit(grams, [word for text in texts for word in text if word != "<s>"])
    return model


def nltk_perplexity(model, documents, order):
    return model.perplexity(
        [
            tuple(text[end - order + 1 : end + 1])
            for text in padded(documents, order)
            for end in range(order - 1, len(text))
        ]
    )


class FixedWeights(theirs.Smoothing):
    """Linear interpolation with one weight per order, in the frame of nltk."""

    weights: tuple[float, ...] = ()

    def alpha_gamma(self, word, context):
        weight = self.weights[len(context)]
        return weight * self.counts[context].freq(word), 1 - weight

    def unigram_score(self, word):
        return self.counts.unigrams.freq(word)


class WittenBellOnUniform(theirs.WittenBell):
    """nltk's Witten-Bell ends at relative frequencies; ours goes one step further, to the uniform distribution."""

    def unigram_score(self, word):
        seen = self.counts.unigrams
        return (seen[word] + seen.B() / V) / (seen.N() + seen.B())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("ours", "make"),
    [
        ({"kind": "add_k", "k": 0.3}, lambda order: Lidstone(0.3, order)),
        ({"kind": "add_k"}, Laplace),
        ({"kind": "add_k", "k": 0}, MLE),
    ],
    ids=["lidstone", "laplace", "mle"],
)
def test_add_k_equals_nltk(ours, make, order):
    """nltk counts its <UNK> as a word of the vocabulary: for us, one more token, which is never seen."""
    documents, test = [list(range(V)), *corpus()], corpus(seed=1, n=3)
    model, peer = fit(documents, order, ours, V + 1), nltk_fit(make(order), documents, order)
    for history in ([], [0], [3, 1], [2, 2], [5, 0, 1], [5, 5, 5, 5]):
        context = (["<s>"] * order + [str(token) for token in history])[-(order - 1) :] if order > 1 else []
        want = [peer.score(str(word), context) for word in range(V)]
        np.testing.assert_allclose(model.distribution(history)[:V], want, rtol=1e-12)
    want = nltk_perplexity(peer, test, order)
    assert model.perplexity(test) == pytest.approx(want, rel=1e-9)
    assert math.isinf(want) == (order > 2 and ours.get("k") == 0), "the sparse contexts of the higher orders"


@pytest.mark.parametrize("order", [1, 2, 3])
def test_interpolation_equals_nltk(order):
    weights = (1.0, 0.6, 0.3)[:order]
    documents, test = [list(range(V)), *corpus()], corpus(seed=1, n=3)
    fixed = type("Fixed", (FixedWeights,), {"weights": weights})
    peer = nltk_fit(InterpolatedLanguageModel(fixed, order), documents, order)
    model = fit(documents, order, {"kind": "jelinek_mercer", "weights": weights})
    assert model.perplexity(test) == pytest.approx(nltk_perplexity(peer, test, order), rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_witten_bell_equals_nltk(order):
    documents, test = corpus(), corpus(seed=1, n=3)
    peer = nltk_fit(InterpolatedLanguageModel(WittenBellOnUniform, order), documents, order)
    found = fit(documents, order, "witten_bell").perplexity(test)
    assert found == pytest.approx(nltk_perplexity(peer, test, order), rel=1e-9)


def katz(documents, order, cutoff, history, word):
    """Katz's definition, read off the formula with dictionaries and recursion."""
    grams = [Counter() for _ in range(order + 1)]
    for document in documents:
        text = [V] * (order - 1) + document
        for end in range(order - 1, len(text)):
            for k in range(1, order + 1):
                grams[k][tuple(text[end - k + 1 : end + 1])] += 1

    def p(word, history):
        k = len(history) + 1
        below = [p(w, history[1:]) if history else 1 / V for w in range(V)]
        counts = [grams[k][(*history, w)] for w in range(V)]
        total = sum(counts)
        if not total:
            return below[word]
        ratios = good_turing(np.array(list(grams[k].values())), cutoff)
        kept = [ratios[min(c, cutoff + 1)] * c for c in counts]
        if all(counts):
            return kept[word] / sum(kept)
        if sum(kept) == pytest.approx(total):
            total += 1
        left = 1 - sum(kept) / total
        unseen = sum(b for b, c in zip(below, counts, strict=True) if not c)
        return kept[word] / total if counts[word] else left * below[word] / unseen

    text = ([V] * (order - 1) + list(history))[len(history) :] if order > 1 else []
    return p(word, tuple(text))


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS, st.integers(1, 3), st.integers(1, 6), st.lists(st.integers(0, V - 1), max_size=4))
def test_katz_equals_the_definition(documents, order, cutoff, history):
    found = fit(documents, order, {"kind": "katz", "cutoff": cutoff}).distribution(history)
    want = [katz(documents, order, cutoff, history, word) for word in range(V)]
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)


def test_good_turing_by_hand():
    """n = 60, 20, 9, 4 for the counts 1 to 4: with the cutoff 3, A = 4 * 4 / 60 and d_1 = (40 / 60 - A) / (1 - A)."""
    counts = np.repeat([1, 2, 3, 4, 9], [60, 20, 9, 4, 7])
    a = 16 / 60
    want = [1, (2 * 20 / 60 - a) / (1 - a), (3 * 9 / 40 - a) / (1 - a), (4 * 4 / 27 - a) / (1 - a), 1]
    np.testing.assert_allclose(good_turing(counts, 3), want)
    assert (good_turing(np.array([1, 2, 2, 2]), 3)[1:-1] < 1).all(), "a text too small to tell still leaves something"


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, DOCUMENTS, st.integers(1, 4), st.sampled_from(FREE), st.lists(st.integers(0, V - 1), max_size=5))
def test_sums_to_one_and_nothing_is_impossible(documents, held_out, order, smoothing, history):
    distribution = fit(documents, order, smoothing, held_out=held_out).distribution(history)
    assert distribution.min() > 0
    assert distribution.sum() == pytest.approx(1, abs=1e-9)


def test_modified_kneser_ney_discounts_by_hand():
    counts = Counts.of([[0] + [1] * 2 + [2] * 3 + [3] * 4 + [4]], 1, 5)
    assert counts.continuations(1).tolist() == [1, 2, 3, 4, 1]
    assert three(np.array([1, 1, 2, 3, 4])) == (0.5, 0.5, 1.0)  # y = 2 / 4: 1 - 2 y / 2, 2 - 3 y, 3 - 4 y
    assert three(np.array([1, 1, 2, 3])) == (0.5, 1.0, 1.5), "nothing was seen 4 times: too small to tell"
    n = np.repeat([1, 2, 3, 4], [40, 20, 12, 8])
    y = 40 / 80
    assert three(n) == pytest.approx((1 - 2 * y * 20 / 40, 2 - 3 * y * 12 / 20, 3 - 4 * y * 8 / 12))


def source(n: int, seed: int, vocab: int = 300) -> list[list[int]]:
    """Draw text in which the last two tokens tell something about the next."""
    table = np.random.default_rng(7).integers(0, vocab, (vocab, vocab))
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab + 1)
    noise = rng.choice(vocab, n, p=weights / weights.sum())
    tokens = [0, 0]
    for chance, other in zip(rng.random(n), noise, strict=True):
        tokens.append(int(other) if chance < 0.5 else int(table[tokens[-2], tokens[-1]]))
    return [tokens]


def test_em_never_loses_and_finds_the_best_weight():
    documents, held_out = source(6000, 0, 30), source(2000, 1, 30)
    counts = Counts.of(documents, 3, 30)
    places = predicted(counts.keys, held_out, 30)
    smoothing = JelinekMercer(JelinekMercer.Config(buckets=1, steps=1000), 3)
    weights, likelihoods = smoothing.estimate(counts, places)
    assert all(after >= before - 1e-12 for before, after in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 0.01

    def score(values):
        return -math.log(fit(documents, 3, {"kind": "jelinek_mercer", "weights": values}, 30).perplexity(held_out))

    best = tuple(float(weight[0]) for weight in weights)
    assert score(best) == pytest.approx(likelihoods[-1], abs=1e-5)
    for order in range(3):
        for step in (-0.03, 0.03):
            moved = tuple(np.clip(weight + (k == order) * step, EDGE, 1 - EDGE) for k, weight in enumerate(best))
            assert score(moved) <= score(best) + 1e-5


def test_k_is_the_best_one_on_held_out_text():
    documents, held_out = corpus(n=40), corpus(seed=1, n=10)
    model = fit(documents, 2, {"kind": "add_k", "k": None}, held_out=held_out)
    best = model.learned["k"]
    for other in (best / 3, best * 3):
        assert fit(documents, 2, {"kind": "add_k", "k": other}).perplexity(held_out) > model.perplexity(held_out)


def test_sparse_contexts_are_the_failure_that_smoothing_mends():
    """Unseen contexts multiply with the order; maximum likelihood finds new text impossible, smoothing does not."""
    train, test = source(20_000, 0), source(2_000, 1)
    model = fit(train, 5, {"kind": "add_k", "k": 0}, 300)
    shares = [row["contexts"] for row in model.unseen(test)]
    assert shares[0] == 0 and all(low <= high for low, high in pairwise(shares))
    assert shares[-1] > 0.8
    assert math.isinf(model.perplexity(test)) and math.isfinite(model.perplexity(train))
    assert model.perplexity(train) < 3, "what it has seen it knows by heart"
    add_one = [fit(train, order, "add_k", 300).perplexity(test) for order in (1, 2, 3, 5)]
    assert add_one[-1] > add_one[0], "adding one makes a longer context worse than none"
    for kind in ("kneser_ney", "modified_kneser_ney", "jelinek_mercer", "katz", "witten_bell"):
        smoothed = [fit(train, order, kind, 300, held_out=source(2_000, 2)).perplexity(test) for order in (1, 3)]
        assert smoothed[1] < smoothed[0] < 300, kind


def test_a_context_that_only_ended_documents_is_unseen():
    model = fit([[0, 1], [0, 1]], 2, "kneser_ney")
    assert [row["contexts"] for row in model.unseen([[0, 1, 0]])] == [0, pytest.approx(1 / 3)]
    assert [row["ngrams"] for row in model.unseen([[0, 1, 0]])] == [0, pytest.approx(1 / 3)]


def test_order_is_chosen_on_held_out_text():
    train, held_out = source(20_000, 0), source(4_000, 1)
    best, trials = choose(
        train, held_out, 300, orders=range(1, 6), smoothings=["kneser_ney", {"kind": "add_k", "k": None}]
    )
    assert best.config.order == 3 and best.config.smoothing.kind == "kneser_ney"
    assert len(trials) == 10 and min(trial.perplexity for trial in trials) == best.perplexity(held_out)
    with pytest.raises(UsageError, match="order"):
        choose(train, held_out, 300, orders=[], smoothings=["add_k"])


def test_is_a_language_model():
    model = fit(corpus(), 3, "kneser_ney")
    assert isinstance(model, LanguageModel) and model.vocab_size == V
    rows = torch.tensor([[0, 1, 2, 3], [5, 5, 1, 0]])
    found = model.logprobs(rows)
    assert found.shape == (2, 3) and found.dtype == torch.float64
    for row, values in zip(rows.tolist(), found.tolist(), strict=True):
        want = [math.log(model.distribution(row[:t])[row[t]]) for t in range(1, 4)]
        assert values == pytest.approx(want)
        assert model.logprobs(row)[1:].tolist() == values
    assert model.logprobs(rows[:, :1]).shape == (2, 0)
    assert model.logprobs(rows[:0]).shape == (0, 3)
    for bad in (rows[0], rows.float(), torch.tensor([[0, V]]), torch.zeros(1, 0, dtype=torch.int64)):
        with pytest.raises(UsageError):
            model.logprobs(bad)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_models_agree(kind, tmp_path: Path):
    model = fit(corpus(), 3, kind, held_out=corpus(seed=1))
    model.save(tmp_path / "ngram.safetensors")
    for path in (tmp_path, tmp_path / "ngram.safetensors"):
        again = NGram.load(path)
        assert again.config == model.config and again.learned == model.learned
        assert again.logprobs([0, 1, 5, 2]).tobytes() == model.logprobs([0, 1, 5, 2]).tobytes()


def test_all_are_tested_and_mistakes_are_explained():
    assert list(SMOOTHINGS) == KINDS
    with pytest.raises(UsageError, match="held-out"):
        fit(corpus(), 2, "jelinek_mercer")
    with pytest.raises(UsageError, match="held-out"):
        fit(corpus(), 2, {"kind": "add_k", "k": None})
    with pytest.raises(UsageError, match="as many weights"):
        fit(corpus(), 2, {"kind": "jelinek_mercer", "weights": (0.5,)})
    with pytest.raises(UsageError, match="did you mean 'kneser_ney'"):
        NGram.Config.parse({"vocab_size": 5, "smoothing": "kneser_nay"})
    with pytest.raises(UsageError, match="within smoothing"):
        NGram.Config.parse({"vocab_size": 5, "smoothing": "katz", "discounts": (0.5,)})
    with pytest.raises(UsageError, match="not learned"):
        NGram(NGram.Config(vocab_size=5)).logprobs([1])
    with pytest.raises(UsageError, match="held-out text is empty"):
        fit(corpus(), 2, "jelinek_mercer", held_out=[[]])
