"""Rows: windows and packed documents predict every token once, and packing changes no prediction."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.text.data.pack import Packed, best_fit
from hanok.text.data.rows import Documents, Rows, Windows, row_batch
from hanok.text.data.shard import Shards, write_shards

VOCAB = 2000


def made(path: Path, sizes: list[int], *, shard_tokens: int = 100) -> Shards:
    """Write documents in which every token is a number of its own, so that a token tells where it stood."""
    starts = np.cumsum([0, *sizes])
    documents = [list(range(start, start + size)) for start, size in zip(starts[:-1].tolist(), sizes, strict=True)]
    write_shards(path, documents, vocab_size=VOCAB, shard_tokens=shard_tokens)
    return Shards(path)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    rng = random.Random(1)
    return made(tmp_path / "s", [0, 1, 2, 55, *(rng.randint(1, 40) for _ in range(60)), 0, 100, 1])


def naive(sizes: list[int], length: int) -> list[int]:
    """Return the room left in each row by best-fit decreasing as it is told in one sentence."""
    room: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [(left, row) for row, left in enumerate(room) if left >= size]
        if fitting:
            room[min(fitting)[1]] -= size
        else:
            room.append(length - size)
    return sorted(room)


def test_best_fit_is_best_fit_decreasing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        length = int(rng.integers(1, 40))
        sizes = rng.integers(1, length + 1, size=int(rng.integers(1, 120))).astype(np.int64)
        rows, n = best_fit(sizes, length)
        room = length - np.bincount(rows, weights=sizes, minlength=n).astype(int)
        assert sorted(room.tolist()) == naive(sizes.tolist(), length)


def test_real_lengths_leave_next_to_no_padding() -> None:
    sizes = np.clip(np.random.default_rng(0).lognormal(5, 1, size=20000), 1, 1024).astype(np.int64)
    _, rows = best_fit(sizes, 1024)
    assert sizes.sum() / (rows * 1024) > 0.995
    in_order, room = 0, 0  # the control: documents as they come, a row closed when the next does not fit
    for size in sizes.tolist():
        in_order, room = (in_order, room - size) if size <= room else (in_order + 1, 1024 - size)
    assert sizes.sum() / (in_order * 1024) < 0.95


@pytest.mark.parametrize("length", [7, 32, 64])
def test_packed_documents_predict_every_token_but_the_first_once(shards: Shards, length: int) -> None:
    packed = Packed(Documents(shards), length)
    seen: Counter[tuple[int, int]] = Counter()
    for row in range(len(packed)):
        batch = row_batch([packed.pieces(row)], length, segmented=True)
        assert batch.segments is not None
        kept = batch.weights[0] > 0
        seen.update(zip(batch.tokens[0][kept].tolist(), batch.targets[0][kept].tolist(), strict=True))
        for segment in batch.segments[0].unique():
            inside = batch.segments[0] == segment
            assert batch.positions[0][inside].tolist() == list(range(int(inside.sum())))
    ends = Documents(shards).ends().tolist()
    starts = [0, *ends[:-1]]
    wanted = [(t, t + 1) for start, end in zip(starts, ends, strict=True) for t in range(start, end - 1)]
    assert seen == Counter(wanted)
    assert packed.targets == len(wanted)
    whole = {n for n in range(len(ends)) if 2 <= ends[n] - starts[n] <= length + 1}
    assert all(len(packed.rows_of(n)) == 1 for n in whole)  # what fits a row is never cut


def rows_of_kinds(documents: Documents, length: int) -> list[Rows]:
    return [Windows(documents, length), Packed(documents, length)]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("some", [False, True])
def test_where_a_document_stands_is_where_its_tokens_are(shards: Shards, kind: int, some: bool) -> None:
    numbers = np.array([2, 3, 7, 8, 20, 33, 60, 64, 65]) if some else None
    documents = Documents(shards, numbers)
    rows = rows_of_kinds(documents, 16)[kind]
    ends = Documents(shards).ends()
    begins = np.concatenate([[0], ends[:-1]])
    found: dict[int, set[int]] = {}
    for row in range(len(rows)):
        tokens = np.concatenate(rows.pieces(row)).tolist()
        told = [begins[s.document] + t for s in rows.spans(row) for t in range(s.start, s.stop)]
        assert told == tokens
        for span in rows.spans(row):
            found.setdefault(span.document, set()).add(row)
    for number in range(len(ends)):
        assert set(rows.rows_of(number)) == found.get(number, set())
    assert rows.rows_of(10**6) == []


def test_some_documents_read_as_if_the_others_were_not_there(shards: Shards) -> None:
    whole = [document.tolist() for document in shards.documents()]
    numbers = [0, 1, 3, 9, 40, 41, 65]
    documents = Documents(shards, np.array(numbers))
    joined = [token for number in numbers for token in whole[number]]
    assert documents.read(0, documents.num_tokens).tolist() == joined
    for start, stop in ((0, 1), (5, 70), (len(joined) - 2, len(joined) + 5), (3, 3)):
        assert documents.read(start, stop).tolist() == joined[start:stop]
    for bad in ([], [3, 3], [4, 1], [-1, 2], [0, 10**6]):
        with pytest.raises(UsageError, match="in order and each once"):
            Documents(shards, np.array(bad, dtype=np.int64))


@pytest.mark.parametrize("preset", ["llama-tiny", "griffin-tiny"])
def test_packing_changes_no_loss_and_no_gradient(preset: str, tmp_path: Path) -> None:
    """Documents in one row give the logits and gradients that they give alone; without segments they do not."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    documents = [[rng.randrange(64) for _ in range(rng.randint(3, 14))] for _ in range(12)]
    write_shards(tmp_path, documents, vocab_size=64)
    packed = Packed(Documents(Shards(tmp_path)), 32)
    batch = row_batch([packed.pieces(row) for row in range(len(packed))], 32, segmented=True)
    model = Model(ModelConfig.preset(preset, vocab=64, dim=16, depth=3, context=64), seed=0)

    def gradient(total: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        total.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    def packed_loss(segments: torch.Tensor | None) -> torch.Tensor:
        logits = model(batch.tokens, Dense(batch.tokens, batch.positions, segments))
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        return (losses * batch.weights.flatten()).sum()

    alone = torch.zeros(())
    for document in documents:
        ids = torch.tensor([document])
        alone = alone + torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum")
    expected = gradient(alone)
    together = packed_loss(batch.segments)
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    assert torch.allclose(gradient(together), expected, atol=1e-4)
    leaking = packed_loss(None)  # the control
    assert abs(leaking.item() - alone.item()) > 1e-3


def test_nothing_to_pack_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no document of two tokens"):
        Packed(Documents(made(tmp_path / "a", [1, 1, 0])), 8)
    with pytest.raises(UsageError, match="fewer than a window"):
        Windows(Documents(made(tmp_path / "b", [3])), 8)
    write_shards(tmp_path / "c", [], vocab_size=9)
    with pytest.raises(UsageError, match="fewer than a window"):
        Windows(Documents(Shards(tmp_path / "c")), 8)
