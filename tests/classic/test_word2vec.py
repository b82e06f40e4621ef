"""word2vec: its loss and gradients by hand, what it learns, and gensim where that is installed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hanok.classic import chunks, problem
from hanok.classic.chunks import CHUNK, Batch, Noise, batches
from hanok.classic.grid import grid_questions, grid_sentences
from hanok.classic.negative_sampling import gradients, loss
from hanok.classic.problem import PROBLEMS, Problem
from hanok.classic.word2vec import Word2Vec
from hanok.classic.word_vectors import WordVectors, read_analogies
from hanok.classic.words import sentences
from hanok.core.errors import UsageError

from .gensim_replay import Replay, as_problem, in_gensims_table

SMALL = {"dim": 32, "window": 8, "epochs": 4}


def random_pairs(*lead: int, n: int = 5, m: int = 7, d: int = 4) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    v, u = (torch.randn(*lead, k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    positive, negative = (torch.rand(*lead, n, m, generator=generator, dtype=torch.float64) for _ in range(2))
    return v, u, positive, negative


def test_one_pair_by_the_formula():
    """-ln s(v u) - sum ln s(-v u_drawn): Mikolov et al. 2013, equation 4."""
    v, u, _, _ = random_pairs(n=1, m=6)
    positive, negative = torch.zeros(2, 1, 6, dtype=torch.float64)
    positive[0, 0], negative[0, 1:] = 1, 1
    want = -torch.log(1 / (1 + torch.exp(-v[0] @ u[0])))
    for drawn in u[1:]:
        want = want - torch.log(1 / (1 + torch.exp(v[0] @ drawn)))
    assert float(loss(v, u, positive, negative)) == pytest.approx(float(want), rel=1e-12)


@pytest.mark.parametrize("lead", [(), (3,)])
def test_gradients_are_autograds(lead: tuple[int, ...]):
    v, u, positive, negative = random_pairs(*lead)
    v.requires_grad_(), u.requires_grad_()
    want = torch.autograd.grad(loss(v, u, positive, negative), (v, u))
    for found, right in zip(gradients(v.detach(), u.detach(), positive, negative), want, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)


def some_batch(words: int = 20, window: int = 3, length: int = 2 * CHUNK) -> Batch:
    generator = torch.Generator().manual_seed(0)
    text = torch.stack([torch.randint(words, (length,), generator=generator), torch.arange(length) // 9])
    noise = Noise.of(torch.bincount(text[0], minlength=words), 0, 0.75)
    (found,) = [batch for batch, _ in batches(text, noise, window, generator)][:1]
    return found


@pytest.mark.parametrize("kind", sorted(PROBLEMS))
def test_a_batch_by_loops(kind: str):
    """The loss of a batch is that of its pairs, one by one; its step is down torch's gradient of it."""
    batch, k = some_batch(), 5
    generator = torch.Generator().manual_seed(3)
    vectors, outputs = (torch.randn(20, 4, generator=generator).requires_grad_() for _ in range(2))
    log = torch.nn.functional.logsigmoid
    total, pairs = torch.zeros(()), 0
    for g in range(len(batch.words)):
        for i, centre in enumerate(batch.centres[g]):
            near = [int(batch.words[g, j]) for j in range(batch.words.shape[1]) if batch.near[g, i, j]]
            if not near:
                continue
            tasks = [(vectors[centre], word) for word in near]
            if kind == "cbow":
                tasks = [(torch.stack([vectors[word] for word in near]).mean(0), int(centre))]
            for v, target in tasks:
                total = total - log(v @ outputs[target])
                for drawn in batch.drawn[g]:
                    if drawn != target:
                        total = total - log(-v @ outputs[drawn]) * k / batch.drawn.shape[1]
                pairs += 1
    task = PROBLEMS[kind](batch, k)
    assert float(task.positive.sum()) == pairs > 50
    assert task.loss(vectors.detach(), outputs.detach()) == pytest.approx(float(total.detach()) / pairs, rel=1e-5)
    wanted = torch.autograd.grad(total, (vectors, outputs))
    after = [table.detach().clone() for table in (vectors, outputs)]
    task.descend(after[0], after[1], 1e-3)
    for table, before, gradient in zip(after, (vectors, outputs), wanted, strict=True):
        torch.testing.assert_close(before.detach() - table, 1e-3 * gradient, rtol=1e-3, atol=1e-5)


def test_no_step_overshoots():
    """A word in a thousand pairs of one batch would jump far beyond what they want; the bound keeps it near."""
    v, ids = torch.tensor([[[3.0, 0.0]]]), torch.zeros(1, 1, dtype=torch.int64)
    many = torch.full((1, 1, 1), 1000.0)
    task = Problem(ids, ids, None, many, torch.zeros_like(many))
    vectors, outputs = v[0].clone(), -v[0].clone()
    task.descend(vectors, outputs, 0.025)
    assert float((vectors - v[0]).norm()) <= problem.FARTHEST * 3 + 1e-6
    free = v[0] - 0.025 * gradients(v, -v, many, torch.zeros_like(many))[0][0]
    assert float((free - v[0]).norm()) > 50, "the control: the bare step"


def test_windows_stay_within_sentences_and_reach_every_distance():
    text = torch.stack([torch.arange(200), torch.arange(200) // 10])
    noise = Noise(torch.ones(200), torch.ones(200).cumsum(0))
    seen: dict[int, int] = {}
    for batch, _ in batches(text, noise, 4, torch.Generator().manual_seed(0)):
        for g, i, j in batch.near.nonzero().tolist():
            centre, word = int(batch.centres[g, i]), int(batch.words[g, j])
            assert centre // 10 == word // 10 and 0 < abs(centre - word) <= 4
            seen[abs(centre - word)] = seen.get(abs(centre - word), 0) + 1
    shares = [seen[distance] / (2 * (200 - 20 * distance)) for distance in (1, 2, 3, 4)]
    # A window is drawn from 1 to 4, so that a neighbour at distance 1 always counts and one at 4 in a quarter.
    np.testing.assert_allclose(shares, [1, 0.75, 0.5, 0.25], atol=0.12)


def test_noise_is_what_was_published():
    counts = torch.tensor([8000, 1600, 300, 99, 1])
    noise = Noise.of(counts, 1e-3, 0.75)
    drawn = torch.bincount(noise.draw((200_000,), torch.Generator().manual_seed(0)), minlength=5) / 200_000
    want = counts.double() ** 0.75 / (counts.double() ** 0.75).sum()
    np.testing.assert_allclose(drawn, want, atol=0.005)
    share = counts / counts.sum()
    np.testing.assert_allclose(noise.keep, ((1e-3 / share).sqrt() + 1e-3 / share).clamp(max=1), rtol=1e-6)
    assert (Noise.of(counts, 0, 0.75).keep == 1).all()


@pytest.mark.parametrize("predict", sorted(PROBLEMS))
def test_analogies_of_a_made_up_language(predict: str):
    text, questions = grid_sentences(8000), grid_questions()
    model = Word2Vec.fit(Word2Vec.Config(predict=predict, **SMALL), text)
    right, asked = model.accuracy(questions)
    assert asked == len(questions) == 12 * 11 * 4 * 3
    assert right >= 0.9
    a, b, c, d = questions[100]
    assert model.analogy(a, b, c)[0][0] == d
    near = [word for word, _ in model.neighbours("peru0", 3)]
    assert all(word.startswith("peru") for word in near)
    # The control: the same words in no order tell nothing.
    rng = np.random.default_rng(0)
    flat = rng.permutation([word for sentence in text for word in sentence]).reshape(-1, 9).tolist()
    assert Word2Vec.fit(Word2Vec.Config(predict=predict, **SMALL), flat).accuracy(questions)[0] < 0.1


def test_the_seed_decides():
    text = grid_sentences(300)
    one, same = (Word2Vec.fit(Word2Vec.Config(min_count=1, **SMALL), text) for _ in range(2))
    other = Word2Vec.fit(Word2Vec.Config(min_count=1, seed=1, **SMALL), text)
    assert torch.equal(one.vectors, same.vectors) and torch.equal(one.outputs, same.outputs)
    assert not torch.equal(one.vectors, other.vectors)


@pytest.fixture(scope="module")
def prose() -> list[list[str]]:
    topics = pytest.importorskip("pydoc_data.topics").topics
    return list(sentences(topics.values()))


PAIRS = (
    "list tuple", "integer integers", "string bytes", "break continue", "class instance", "int float", "try except",
    "left right", "global nonlocal", "import module", "positive negative", "lower upper", "true false", "keys values",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("predict", "epochs"), [("skipgram", 8), ("cbow", 12)])
def test_neighbours_in_pythons_own_documentation(predict: str, epochs: int, prose: list[list[str]]):
    """Of the words of `help()`, those that belong together are near: among the nearest twentieth, on the median."""
    model = Word2Vec.fit(Word2Vec.Config(predict=predict, dim=48, epochs=epochs), prose)
    start = Word2Vec(model.config, model.words)

    def rank(vectors: WordVectors, pair: str) -> float:
        one, other = pair.split()
        found = [word for word, _ in vectors.neighbours(one, len(vectors.words))]
        return found.index(other) / len(found)

    ranks = {pair: rank(model, pair) for pair in PAIRS}
    assert np.median(list(ranks.values())) < 0.05, ranks
    assert np.median([rank(start, pair) for pair in PAIRS]) > 0.2, "the control: vectors that have learned nothing"


def test_saved_and_loaded_models_agree(tmp_path: Path):
    model = Word2Vec.fit(Word2Vec.Config(min_count=1, **SMALL), grid_sentences(200))
    model.save(tmp_path)
    again = Word2Vec.load(tmp_path)
    assert again.config == model.config and again.words == model.words
    for name in ("vectors", "outputs", "counts"):
        assert torch.equal(getattr(again, name), getattr(model, name))
    again.train(grid_sentences(50, seed=1))
    model.train(grid_sentences(50, seed=1))
    assert torch.equal(again.vectors, model.vectors)
    (tmp_path / "word2vec.json").write_text('{"config": {}, "words": ["a"]}')
    with pytest.raises(UsageError, match="not a saved word2vec"):
        Word2Vec.load(tmp_path)
    with pytest.raises(UsageError, match="not a saved word2vec"):
        Word2Vec.load(tmp_path / "absent")


def test_text_format_keeps_every_bit(tmp_path: Path):
    model = WordVectors(["한옥", "naïve", "x"], torch.randn(3, 5) * torch.tensor([[1e-20], [1.0], [1e20]]))
    model.to_text(tmp_path / "v.txt")
    again = WordVectors.from_text(tmp_path / "v.txt")
    assert again.words == model.words and torch.equal(again.vectors, model.vectors)
    wrapped = Word2Vec.of(again)
    assert wrapped.neighbours("x", 2) == model.neighbours("x", 2)
    with pytest.raises(UsageError, match="cannot hold the word"):
        WordVectors(["two words"], torch.zeros(1, 2)).to_text(tmp_path / "w.txt")
    for text, says in [
        ("2 3\na 1 2 3\n", "announces 2 words and holds 1"),
        ("1 3\na 1 2\n", "line 2: .*2 numbers instead of 3"),
        ("1 2\na 1 x\n", "line 2"),
        ("", "line 2"),
    ]:
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(UsageError, match=says):
            WordVectors.from_text(tmp_path / "bad.txt")
    with pytest.raises(UsageError, match="cannot read"):
        WordVectors.from_text(tmp_path / "absent.txt")


def test_questions_and_sentences(tmp_path: Path):
    (tmp_path / "q.txt").write_text(": capitals\nathens greece oslo norway\n\n: family\nman king woman queen\n")
    assert read_analogies(tmp_path / "q.txt") == {
        "capitals": [("athens", "greece", "oslo", "norway")],
        "family": [("man", "king", "woman", "queen")],
    }
    (tmp_path / "q.txt").write_text("athens greece oslo\n")
    with pytest.raises(UsageError, match="line 1: an analogy has four words"):
        read_analogies(tmp_path / "q.txt")
    text = "It's 3 o'clock. 한옥은 집입니다! Alone.\n\nA new paragraph"
    assert list(sentences([text])) == [["it's", "3", "o'clock"], ["한옥은", "집입니다"], ["a", "new", "paragraph"]]


def test_mistakes_are_explained():
    model = WordVectors(["king", "queen"], torch.eye(2))
    with pytest.raises(UsageError, match="'kinng' was not learned; did you mean 'king'"):
        model.neighbours("kinng")
    with pytest.raises(UsageError, match="at least one word"):
        model.neighbours("king", 0)
    assert model.neighbours("king", 99) == [("queen", 0.0)]
    with pytest.raises(UsageError, match="no question"):
        model.accuracy([("a", "b", "c", "d")])
    with pytest.raises(UsageError, match="lower min_count"):
        Word2Vec.fit(Word2Vec.Config(), [["a", "b"]])
    with pytest.raises(UsageError, match="known word"):
        Word2Vec(Word2Vec.Config(), ["a", "b"]).train([["c"]])
    with pytest.raises(UsageError, match="each only once"):
        WordVectors(["a", "a"], torch.eye(2))


# --- gensim --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("predict", sorted(PROBLEMS))
def test_equals_gensims_loss_and_gradient_on_the_same_batch(predict: str):
    """One sentence, the same vectors, windows and negatives: within gensim's coarse table of the logistic function, and
    with that table equal but for the steps that its later pairs see (at a small rate all are one step of the sum)."""
    gensim = pytest.importorskip("gensim")
    rng, rate = np.random.default_rng(0), 1e-4
    sentence = [f"w{id}" for id in rng.integers(0, 12, 60)]
    peer = gensim.models.Word2Vec(vector_size=16, window=4, sg=int(predict == "skipgram"), negative=5, sample=0,
                                  min_count=1, workers=1, alpha=rate, min_alpha=rate, seed=3)  # fmt: skip
    peer.build_vocab([sentence])
    ids, words = [peer.wv.key_to_index[word] for word in sentence], len(peer.wv)
    peer.wv.vectors[:] = rng.normal(0, 0.4, peer.wv.vectors.shape)
    peer.syn1neg[:] = rng.normal(0, 0.4, peer.syn1neg.shape)
    before, replay, tasks = (peer.wv.vectors.copy(), peer.syn1neg.copy()), Replay(peer, len(ids)), []
    for i, centre in enumerate(ids):
        near = [ids[j] for j in replay.near(i, len(ids))]
        # gensim's skip-gram swaps the roles: each neighbour predicts the centre.
        jobs = [([word], centre) for word in near] if predict == "skipgram" else [(near, centre)]
        tasks += [(inputs, target, replay.draw(target)) for inputs, target in jobs]
    peer.train([sentence], total_examples=1, epochs=1, compute_loss=True)
    theirs = peer.get_latest_training_loss()
    moved = [torch.tensor((old - new) / rate) for old, new in zip(before, (peer.wv.vectors, peer.syn1neg), strict=True)]

    v, u = map(torch.tensor, before)
    ours = as_problem(tasks, words)
    mix, positive, negative = ours.mix[0], ours.positive[0], ours.negative[0]
    h, scores = mix @ v, mix @ v @ u.T
    assert ours.loss(v, u) * len(tasks) == pytest.approx(theirs, rel=0.03)
    assert coarse_loss(scores, positive, negative) == pytest.approx(theirs, rel=5e-4)
    turned = negative.roll(1, dims=-1)
    assert coarse_loss(scores, positive, turned) != pytest.approx(theirs, rel=5e-4), "the control: other negatives"
    assert far(gradients(h, u, positive, turned)[1], moved[1]) > 0.3

    # gensim's CBOW gives every neighbour the whole gradient of the mean, without 1 / their number; ours is the loss's.
    whole = (mix > 0).float()
    for row, (inputs, _, _) in enumerate(tasks):
        whole[row] = torch.bincount(torch.tensor(inputs, dtype=torch.int64), minlength=words)
    for name, (gh, gu), bound in (
        ("ours", gradients(h, u, positive, negative), 0.03),
        ("with the table", coarsely(h, u, positive, negative), 5e-3),
    ):
        assert far(gu, moved[1]) < bound and far(whole.T @ gh, moved[0]) < bound, name
        apart = far(mix.T @ gh, moved[0])
        assert apart < bound if predict == "skipgram" else apart > 0.5, name


def coarse_loss(scores: Tensor, positive: Tensor, negative: Tensor) -> float:
    softplus = torch.nn.functional.softplus
    return float(
        (positive * softplus(-in_gensims_table(scores)) + negative * softplus(-in_gensims_table(-scores))).sum()
    )


def coarsely(h: Tensor, u: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    g = torch.sigmoid(in_gensims_table(h @ u.T)) * (positive + negative) - positive
    return g @ u, g.T @ h


def far(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.filterwarnings("ignore")
def test_gensim_reads_our_vectors_and_we_read_its(tmp_path: Path):
    gensim = pytest.importorskip("gensim")
    model = Word2Vec.fit(Word2Vec.Config(min_count=1, **SMALL), grid_sentences(200))
    model.to_text(tmp_path / "ours.txt")
    theirs = gensim.models.KeyedVectors.load_word2vec_format(str(tmp_path / "ours.txt"))
    assert np.array_equal(theirs.vectors, model.vectors.numpy()) and theirs.index_to_key == model.words
    found, want = model.neighbours("peru0", 5), theirs.most_similar("peru0", topn=5)
    assert [word for word, _ in found] == [word for word, _ in want]
    assert [value for _, value in found] == pytest.approx([value for _, value in want], abs=1e-5)
    a, b, c, _ = grid_questions()[7]
    answer = theirs.most_similar(positive=[b, c], negative=[a], topn=1)[0]
    assert model.analogy(a, b, c)[0] == (answer[0], pytest.approx(answer[1], abs=1e-5))
    theirs.save_word2vec_format(str(tmp_path / "theirs.txt"))
    again = WordVectors.from_text(tmp_path / "theirs.txt")
    assert torch.equal(again.vectors, model.vectors)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_neighbours_are_as_near_to_gensims_as_its_own_seeds_are(prose: list[list[str]]):
    gensim = pytest.importorskip("gensim")
    peers = [gensim.models.Word2Vec(prose, sg=1, workers=1, epochs=15, seed=seed).wv for seed in (1, 2)]
    model = Word2Vec.fit(Word2Vec.Config(epochs=15), prose)
    words = [word for word in model.words[50:300] if re.fullmatch("[a-z]{4,}", word)]

    def near(which, word: str) -> set[str]:
        found = model.neighbours(word, 10) if which is model else which.most_similar(word, topn=10)
        return {each for each, _ in found}

    def overlap(one, other) -> float:
        return float(np.mean([len(near(one, word) & near(other, word)) / 10 for word in words]))

    among, ours = overlap(*peers), np.mean([overlap(model, peer) for peer in peers])
    print(f"neighbours in common: gensim's seeds {among:.3f}, ours and gensim {ours:.3f}, {len(words)} words")
    assert ours > 0.8 * among


def test_batches_shrink_where_a_word_is_frequent():
    text = torch.zeros(10_000, dtype=torch.int64)
    noise = Noise.of(torch.tensor([10_000]), 0, 0.75)
    assert chunks.batch_size(noise, text) == 1
    assert chunks.batch_size(noise, torch.arange(10_000)) == chunks.LARGEST
