"""What training hides, cuts out and splits: the published shares and schemes, and positions that can be saved."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.changed import Changed, changed
from hanok.text.data.mask import Mask, Masking
from hanok.text.data.prefix import Prefix
from hanok.text.data.shard import write_shards
from hanok.text.data.spans import Spans
from hanok.text.data.stream import TokenStream
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.extend import with_specials

TEXT = "the quick brown fox jumps over the lazy dogs, 한국어 문장도 있고 numbers like 2024 and snake_case names. "


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT * 3], vocab_size=330)


def words(names: list[str], unknown: str = "[UNK]") -> Tokenizer:
    """Return a tokenizer with a vocabulary of given names, as WordPiece spells them."""
    vocab = {name: id for id, name in enumerate([unknown, "[CLS]", "[SEP]", "[MASK]", *names])}
    backend = Backend(WordLevel(vocab, unk_token=unknown))
    backend.add_special_tokens(["[CLS]", "[SEP]", "[MASK]", unknown])
    return Tokenizer(backend, {"cls_token": "[CLS]"})


def window(ids: np.ndarray[tuple[int, ...], np.dtype[np.int64]], weights: torch.Tensor | None = None) -> Batch:
    rows = torch.from_numpy(ids)
    weights = torch.ones(rows.shape) if weights is None else weights
    return Batch(rows, torch.roll(rows, -1, 1), weights, torch.arange(rows.shape[1]).expand(rows.shape))


def random_rows(tokenizer: Tokenizer, batch: int, length: int, seed: int = 0) -> Batch:
    ids = [id for id in range(tokenizer.vocab_size) if id not in tokenizer.specials.values()]
    return window(np.random.default_rng(seed).choice(ids, (batch, length)))


def test_the_shares_are_those_of_bert(tokenizer: Tokenizer) -> None:
    """15 % of the tokens, of which 80 : 10 : 10, within four standard deviations of 19,200 draws."""
    extended, mask = Mask.prepare(tokenizer, Masking())
    batch = random_rows(extended, 256, 500)
    out = changed(batch, mask, seed=0, number=0)
    chosen = out.weights > 0
    assert chosen.sum(1).tolist() == [75] * 256
    assert torch.equal(out.targets, batch.tokens) and torch.equal(out.tokens[~chosen], batch.tokens[~chosen])
    now, before = out.tokens[chosen], batch.tokens[chosen]
    n = len(now)
    for share, expected in (((now == mask.mask_id), 0.8), ((now != mask.mask_id) & (now != before), 0.1)):
        assert abs(share.float().mean().item() - expected) < 4 * (expected * (1 - expected) / n) ** 0.5 + 1 / 300
    counts = chosen.float().mean(0)  # every place is as likely as any other
    assert (counts - 0.15).abs().max() < 5 * (0.15 * 0.85 / 256) ** 0.5


def test_specials_and_padding_are_left_alone(tokenizer: Tokenizer) -> None:
    extended, mask = Mask.prepare(tokenizer, Masking(rate=0.9))
    ids = np.asarray([[extended.bos_id, 40, 41, 42, extended.eos_id, 43, 44, 45]], dtype=np.int64)
    weights = torch.tensor([[1.0, 1, 1, 1, 1, 1, 0, 0]])
    for number in range(50):
        out = changed(window(ids, weights), mask, seed=0, number=number)
        assert not out.weights[0, [0, 4, 6, 7]].any()
        assert out.segments is not None and out.segments[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
        assert out.weights.sum() == 4  # round(0.9 * 4)
        assert (out.tokens[0, [0, 4]] == torch.tensor([extended.bos_id, extended.eos_id])).all()


def test_whole_words_are_hidden_whole(tokenizer: Tokenizer) -> None:
    """Byte-level BPE: what was chosen is a union of words of the text, as a split by spaces and marks has them."""
    extended, mask = Mask.prepare(tokenizer, Masking(rate=0.3, unit="word"))
    ids = extended.encode(TEXT * 2)
    runs: list[set[int]] = []
    text = b""
    for place, id in enumerate(ids):
        raw = extended.token_bytes(id)
        joined = text[-1:] and (text[-1:].isalnum() or text[-1] >= 128) and (raw[:1].isalnum() or raw[0] >= 128)
        runs[-1].add(place) if joined else runs.append({place})
        text += raw
    assert sum(len(run) > 1 for run in runs) > 5
    seen: Counter[int] = Counter()
    for number in range(40):
        out = changed(window(np.asarray([ids])), mask, seed=1, number=number)
        chosen = set(out.weights[0].nonzero()[:, 0].tolist())
        assert all(run <= chosen or not run & chosen for run in runs)
        assert 0 < len(chosen) <= round(0.3 * len(ids))
        seen.update(chosen)
    assert len(seen) > 0.9 * len(ids)
    _, single = Mask.prepare(tokenizer, Masking(rate=0.3))
    control = changed(window(np.asarray([ids])), single, seed=1, number=0).weights[0].nonzero()[:, 0].tolist()
    assert any(run & set(control) and not run <= set(control) for run in runs)


def test_wordpiece_says_itself_what_continues_a_word() -> None:
    tokenizer = words(["un", "##believ", "##able", "story", "!"])
    same, mask = Mask.prepare(tokenizer, Masking(rate=0.5, mask=1.0, random=0.0, unit="word"))
    assert same is tokenizer and mask.mask_id == 3
    ids = np.asarray([[1, 4, 5, 6, 7, 8, 2]])
    found = {tuple(changed(window(ids), mask, seed=0, number=n).weights[0].nonzero()[:, 0].tolist()) for n in range(60)}
    assert found == {(1, 2, 3), (4, 5)}  # two of five tokens, or the first word drawn although it is longer


def reference_noise_mask(length: int, noise: int, spans: int, rng: np.random.Generator) -> list[bool]:
    """T5's `random_spans_noise_mask`, as published (text-to-text-transfer-transformer, preprocessors.py)."""

    def segmentation(items: int, segments: int) -> list[int]:
        first = np.pad(rng.permutation((np.arange(items - 1) < segments - 1).astype(int)), (1, 0))
        return [int(count) for count in np.bincount(np.cumsum(first))]

    interleaved = np.stack([segmentation(length - noise, spans), segmentation(noise, spans)], 1).ravel()
    starts = np.zeros(length, dtype=int)
    starts[np.cumsum(interleaved)[:-1]] = 1
    return [bool(number % 2) for number in np.cumsum(starts)]


def test_spans_are_drawn_as_t5_draws_them(tokenizer: Tokenizer) -> None:
    """The distribution of a short text's holes, over all its possible masks, equals that of the published scheme."""
    _, spans = Spans.prepare(tokenizer, rate=0.4, mean=2.0, sentinels=4)
    text, draws = np.arange(300, 310), 6000
    rng = np.random.default_rng(0)
    ours: Counter[tuple[bool, ...]] = Counter()
    for _ in range(draws):
        source, _ = spans.cut(text, rng)
        ours[tuple(id not in source for id in text)] += 1
    theirs = Counter(tuple(reference_noise_mask(10, 4, 2, rng)) for _ in range(draws))
    assert set(ours) == set(theirs) and len(ours) == 15  # C(5, 1) gaps times C(3, 1) spans
    assert sum(abs(ours[key] - theirs[key]) for key in theirs) / draws < 0.08


def test_source_and_target_make_the_text_again(tokenizer: Tokenizer) -> None:
    extended, spans = Spans.prepare(tokenizer, rate=0.15, mean=3.0, sentinels=100)
    assert extended.vocab_size == tokenizer.vocab_size + 100
    assert extended.token_id("<extra_id_0>") == tokenizer.vocab_size and extended.decode([tokenizer.vocab_size]) == ""
    assert extended.encode("<extra_id_0>") == tokenizer.encode("<extra_id_0>")  # never read from text
    batch = random_rows(tokenizer, 8, 512)
    out = changed(batch, spans, seed=0, number=0)
    assert out.columns["source"].shape == (8, 462) and out.targets.shape == (8, 104)
    assert "source_seen" not in out.columns and out.weights.all()
    assert (out.tokens[:, 0] == spans.start).all() and torch.equal(out.tokens[:, 1:], out.targets[:, :-1])
    for text, source, target in zip(batch.tokens, out.columns["source"], out.targets, strict=True):
        assert source[-1] == target[-1] == extended.eos_id
        holes: dict[int, list[int]] = {}
        for id in target[:-1].tolist():
            if id in spans.sentinels:
                holes[id] = []
            else:
                next(reversed(holes.values())).append(id)
        assert list(holes) == list(spans.sentinels[: len(holes)])
        filled = [x for id in source[:-1].tolist() for x in (holes[id] if id in spans.sentinels else [id])]
        assert filled == text.tolist()


def test_short_and_padded_rows(tokenizer: Tokenizer) -> None:
    _, spans = Spans.prepare(tokenizer, rate=0.15, mean=3.0, sentinels=3)
    weights = (torch.arange(12)[None] < torch.tensor([[12], [5], [1], [0]])).float()
    batch = random_rows(tokenizer, 4, 12)
    batch = Batch(batch.tokens, batch.targets, weights, batch.positions)
    out = changed(batch, spans, seed=0, number=0)
    assert out.weights.sum(1).tolist() == [4, 3, 0, 0]  # a mark, one or two tokens, EOS; nothing to learn
    assert out.columns["source_seen"].sum(1).tolist() == [12, 6, 2, 1]
    with pytest.raises(UsageError, match=r"objective\.sentinels is 3"):
        changed(random_rows(tokenizer, 1, 300), spans, seed=0, number=0)
    with pytest.raises(UsageError, match="packed"):
        packed = Batch(batch.tokens, batch.targets, weights, batch.positions, torch.zeros(4, 12, dtype=torch.int64))
        changed(packed, spans, seed=0, number=0)


def test_prefixes_are_drawn_evenly_in_each_document(tokenizer: Tokenizer) -> None:
    batch = random_rows(tokenizer, 1500, 8)
    segments = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]).expand(1500, -1)
    whole = changed(batch, Prefix(), seed=0, number=0)
    sizes = Counter(whole.columns["prefix"].sum(1).int().tolist())
    assert set(sizes) == set(range(1, 9)) and min(sizes.values()) > 1500 / 8 * 0.7
    # The first target that counts is that of the prefix's last token.
    assert torch.equal(whole.weights.sum(1), 9 - whole.columns["prefix"].sum(1))
    parts = changed(
        Batch(batch.tokens, batch.targets, batch.weights, batch.positions, segments), Prefix(), seed=0, number=0
    )
    inside = parts.columns["prefix"]
    assert (inside[:, [0, 5]] == 1).all()  # each document begins with its own
    assert (inside[:, 1:5].diff() <= 0).all() and (inside[:, 5:].diff() <= 0).all()
    assert (parts.weights[:, [4, 7]] == 1).all()
    weights = batch.weights * (torch.arange(8) < 3)
    padded = changed(Batch(batch.tokens, batch.targets, weights, batch.positions), Prefix(), seed=0, number=0)
    assert set(padded.columns["prefix"].sum(1).tolist()) == {1, 2, 3}


def test_what_is_drawn_goes_with_the_row(tokenizer: Tokenizer) -> None:
    """Other rows of the batch, and the place among them, change nothing; another batch number or seed does."""
    _, mask = Mask.prepare(tokenizer, Masking())
    batch = random_rows(tokenizer, 6, 60)
    whole = changed(batch, mask, seed=3, number=7)
    order = [4, 2, 5]
    part = Batch(batch.tokens[order], batch.targets[order], batch.weights[order], batch.positions[order])
    assert torch.equal(changed(part, mask, seed=3, number=7).tokens, whole.tokens[order])
    assert not torch.equal(changed(batch, mask, seed=3, number=8).tokens, whole.tokens)
    assert not torch.equal(changed(batch, mask, seed=4, number=7).tokens, whole.tokens)


def test_a_saved_position_gives_the_same_batches(tokenizer: Tokenizer, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(5, 300, 700)
    write_shards(tmp_path, [ids.tolist()], vocab_size=330)
    _, mask = Mask.prepare(tokenizer, Masking())

    def stream(seed: int = 0) -> Changed:
        return Changed(TokenStream(tmp_path, length=16, batch=4, seed=0), mask, seed=seed)

    first = stream()
    for _ in range(5):
        first.next_batch()
    position = json.loads(json.dumps(first.state()))
    later = [first.next_batch() for _ in range(20)]  # into the second epoch
    second = stream()
    second.restore(position)
    for batch in later:
        again = second.next_batch()
        assert torch.equal(again.tokens, batch.tokens) and torch.equal(again.weights, batch.weights)
    with pytest.raises(UsageError, match="another seed"):
        stream(1).restore(position)


def test_more_specials_keep_what_is_there(tokenizer: Tokenizer, tmp_path: Path) -> None:
    more = with_specials(tokenizer, ["<a>", "<|eos|>", "<b>"], mask_token="<a>")
    assert more.vocab_size == tokenizer.vocab_size + 2
    assert [more.token_id(name) for name in ("<a>", "<b>")] == [tokenizer.vocab_size, tokenizer.vocab_size + 1]
    assert more.encode(TEXT) == tokenizer.encode(TEXT) and more.decode(more.encode(TEXT)) == TEXT
    more.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.specials == more.specials and loaded.config["mask_token"] == "<a>"
