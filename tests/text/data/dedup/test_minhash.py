"""MinHash against brute force, against the theory, and against another implementation."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.dedup import Duplicates, MinHash, measure_recall
from hanok.text.data.dedup.minhash import MinHashConfig, jaccard

NGRAM, TEXT_WORDS = 5, 64  # 60 shingles in each text of a pair


def planted(shared: int, rng: random.Random) -> tuple[str, str]:
    """Two texts that begin with the same words, so that they share `shared` of their 60 shingles each."""
    words = [f"w{rng.getrandbits(40):x}" for _ in range(3 * TEXT_WORDS)]
    common = words[: shared + NGRAM - 1] if shared else []
    tail = TEXT_WORDS - len(common)
    return " ".join(common + words[TEXT_WORDS:][:tail]), " ".join(common + words[TEXT_WORDS:][tail:][:tail])


def test_similarity_of_planted_texts_is_what_brute_force_counts() -> None:
    rng, minhash = random.Random(0), MinHash(MinHashConfig(bands=64, rows=8))
    for shared in (0, 10, 30, 50, 59, 60):
        a, b = planted(shared, rng)
        grams = [{tuple(text.split()[i : i + NGRAM]) for i in range(TEXT_WORDS - NGRAM + 1)} for text in (a, b)]
        truth = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
        assert truth == shared / (120 - shared)
        assert jaccard(minhash.shingles(a), minhash.shingles(b)) == truth
        assert minhash.similarity(a, b) == pytest.approx(truth, abs=0.1)  # 4.5 standard errors of 512 hashes


def test_recall_follows_the_theory() -> None:
    report = measure_recall(MinHash(), (0.5, 0.7, 0.8, 0.9), pairs=600)
    assert [recall.jaccard for recall in report.recalls] == [0.5, 0.7, 0.8, 0.9]
    assert [f"{recall.expected:.3f}" for recall in report.recalls] == ["0.053", "0.565", "0.924", "1.000"]
    assert all(abs(recall.deviations) < 4 for recall in report.recalls)
    assert report.worst < 0.06 and report.unrelated == 0
    shown = str(report)
    assert "14 bands of 8" in shown and f"{report.recalls[1].measured:.2%}" in shown
    assert report.to_dict()["worst"] == report.worst


def test_the_check_of_recall_can_fail() -> None:
    class Poor(MinHash):
        def minima(self, shingles):  # type: ignore[no-untyped-def]
            # One function in place of all: rows and bands are no longer independent, and recall becomes J itself.
            return np.repeat(super().minima(shingles)[..., :1], self.num_hashes, axis=-1)

    report = measure_recall(Poor(), (0.3, 0.5), pairs=200)
    assert all(abs(recall.deviations) > 4 for recall in report.recalls)


@pytest.mark.slow
@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 5), (9, 13)])
def test_recall_is_within_one_point_of_the_theory(bands: int, rows: int) -> None:
    report = measure_recall(MinHash(MinHashConfig(bands=bands, rows=rows)), pairs=40_000, seed=1)
    assert report.worst < 0.01, str(report)


@pytest.mark.slow
def test_recall_on_whole_texts_is_within_one_point_of_the_theory() -> None:
    rng, minhash, pairs = random.Random(2), MinHash(), 20_000
    for shared in (48, 54):  # J = 0.667 and 0.818
        found = sum(
            bool((minhash.signature(a) == minhash.signature(b)).any())
            for a, b in (planted(shared, rng) for _ in range(pairs))
        )
        assert found / pairs == pytest.approx(minhash.expected_recall(shared / (120 - shared)), abs=0.01)


def test_recall_equals_that_of_datasketch_on_the_same_texts() -> None:
    datasketch = pytest.importorskip("datasketch")
    rng, minhash, pairs, ours, theirs = random.Random(3), MinHash(), 100, 0, 0
    for _ in range(pairs):
        texts = planted(51, rng)  # J = 0.739
        ours += bool((minhash.signature(texts[0]) == minhash.signature(texts[1])).any())
        sketches = []
        for words in map(str.split, texts):
            sketches.append(datasketch.MinHash(num_perm=112))
            sketches[-1].update_batch([" ".join(words[i : i + NGRAM]).encode() for i in range(len(words) - NGRAM + 1)])
        lsh = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
        lsh.insert("first", sketches[0])
        theirs += bool(lsh.query(sketches[1]))
    expected = minhash.expected_recall(51 / 69)
    spread = 4 * np.sqrt(expected * (1 - expected) / pairs)
    assert abs(ours / pairs - expected) < spread and abs(theirs / pairs - expected) < spread


def test_case_punctuation_and_wrapping_make_no_difference_and_words_do() -> None:
    minhash = MinHash()
    text = " ".join(f"word{i}" for i in range(50))
    assert (minhash.signature(text) == minhash.signature(text.upper().replace(" ", ",\n"))).all()
    assert not (minhash.signature(text) == minhash.signature(" ".join(reversed(text.split())))).any()


@pytest.mark.parametrize("pair", [("", "!"), ("one two", "one three"), ("…", "——"), ("가나", "가다")])
def test_texts_of_hardly_a_word_are_compared_whole(pair: tuple[str, str]) -> None:
    minhash = MinHash()
    a, b = map(minhash.signature, pair)
    assert not (a == b).any() and (a == minhash.signature(pair[0])).all()


def test_signatures_are_the_same_on_every_machine_and_differ_by_seed() -> None:
    text = "하나 둘 셋 넷 다섯 여섯 일곱"
    assert MinHash().signature(text).dtype == np.uint64 and MinHash().signature(text).shape == (14,)
    assert int(MinHash().signature(text)[0]) == 2486237081703068449
    assert not (MinHash().signature(text) == MinHash(MinHashConfig(seed=1)).signature(text)).any()


def test_long_texts_are_hashed_in_blocks_to_the_same_end() -> None:
    minhash = MinHash(MinHashConfig(bands=2, rows=2))
    shingles = np.random.default_rng(0).integers(0, 2**63, 5000).astype(np.uint64)
    short = (shingles >> np.uint64(32)).astype(np.uint32)
    whole = (short[None, :] * minhash._scale + minhash._shift).min(axis=1)
    assert (minhash.minima(shingles) == whole).all()


def test_near_copies_are_found_in_a_corpus() -> None:
    rng, minhash = random.Random(4), MinHash()
    found = Duplicates(minhash)
    texts = [planted(0, rng)[0] for _ in range(100)]
    for number, text in enumerate(texts):
        found.add(f"d{number}", minhash.signature(text))
    for number in (3, 50):
        found.add(f"copy of {number}", minhash.signature(texts[number] + " and one more"))
    assert found.find() == {"copy of 3": "d3", "copy of 50": "d50"}


def test_bad_settings() -> None:
    with pytest.raises(UsageError, match="at least one pair"):
        measure_recall(MinHash(), (0.5,), pairs=0)
    with pytest.raises(UsageError, match="bands"):
        MinHashConfig.parse({"bands": 0})
