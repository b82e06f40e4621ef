"""Tracing: documents of a batch and batches of a document, against going through everything."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.text.data import origins
from hanok.text.data.history import History
from hanok.text.data.origins import Origins
from hanok.text.data.shard import write_shards
from hanok.text.data.sources import Layout, MixtureConfig, open_stream

STEPS, PER_STEP = 30, 8
NAMES = ["plain", 'quote " and \\', "한국어", "tab\t", "new\nline"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history")
    rng = random.Random(0)
    for name in ("web", "code"):
        documents = [[rng.randrange(500) for _ in range(rng.randint(0, 50))] for _ in range(60)]
        write_shards(path / name / "train", documents, vocab_size=500)
        records = [{"id": f"{name}/{NAMES[i % 5]} {i}", "source": "s", "url": f"u{i}"} for i in range(60)]
        lines = [json.dumps(record, ensure_ascii=bool(i % 2)) for i, record in enumerate(records)]
        (path / name / "train" / "origins.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def history(folder: Path, **options: Any) -> History:
    packed = options.pop("packed", False)
    mixture = {"sources": {name: str(folder / name) for name in ("web", "code")}, **options}
    stream = open_stream(MixtureConfig.parse(mixture), folder / "web", Layout(16, 4, seed=2, packed=packed))
    stream.span(STEPS * PER_STEP)
    return History(stream, PER_STEP)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"packed": True, "weights": {"code": 0.1}},
    {"curriculum": {"buckets": 4, "by": "rarity"}, "schedule": [{"start": 0.5, "weights": {"web": 0.05}}]},
    {"packed": True, "curriculum": {"buckets": 4, "by": "length"}},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_both_directions_agree_for_every_document(options: dict[str, Any], folder: Path) -> None:
    told = history(folder, **options)
    by_document: dict[str, list[tuple[int, int, int, int]]] = {}
    for batch in range(1, STEPS + 1):
        for one in told.batch(batch):
            by_document.setdefault(one.id, []).append((one.batch, one.row, one.start, one.stop))
    for name in ("web", "code"):
        for number in range(0, 60, 2 if name == "web" else 5):
            wanted = f"{name}/{NAMES[number % 5]} {number}"
            found = told.document(wanted, STEPS)
            assert all(one.document == number and one.origin["url"] == f"u{number}" for one in found)
            assert [(o.batch, o.row, o.start, o.stop) for o in found] == sorted(by_document.get(wanted, []))
            assert told.document(wanted, 7) == [one for one in found if one.batch <= 7]
    assert len(by_document) > 60  # the test is not blind
    assert max(len(found) for found in by_document.values()) > 1  # several passes are in it


@pytest.mark.parametrize("options", OPTIONS)
def test_a_past_batch_is_rebuilt_bit_for_bit(options: dict[str, Any], folder: Path) -> None:
    stream = history(folder, **options).stream
    trained = [[stream.next_batch(), stream.next_batch()] for _ in range(STEPS)]  # two micro-batches a step
    told = history(folder, **options)
    for step in random.Random(0).sample(range(1, STEPS + 1), 12):
        again = told.rebuild(step)
        for name in ("tokens", "targets", "weights", "positions", "segments"):
            parts = [getattr(batch, name) for batch in trained[step - 1]]
            if parts[0] is not None:
                assert getattr(again, name).equal(torch.cat(parts))
    assert not told.rebuild(1).tokens.equal(told.rebuild(2).tokens)


def test_origins_are_found_without_reading_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers whatever the size of the blocks that the file is looked through in."""
    found = Origins(folder / "web" / "train", 60)
    records = list(found.records())
    for block in (7, 64, 500, 2**24):
        monkeypatch.setattr(origins, "BLOCK", block)
        assert found.of([59, 0, 31, 31]) == {n: records[n] for n in (59, 0, 31)}
        assert [found.find(record["id"]) for record in records] == list(range(60))
    assert found.find("u3") is None and found.find("web/plain") is None
    (folder / "web" / "train" / "origins.jsonl").rename(folder / "kept")
    bare = Origins(folder / "web" / "train", 60)
    assert bare.find("59") == 59 and bare.find("60") is None and bare.of([3])[3]["id"] == "3"
    (folder / "kept").rename(folder / "web" / "train" / "origins.jsonl")


def test_broken_origins_are_named(tmp_path: Path) -> None:
    file = tmp_path / "origins.jsonl"
    file.write_text('{"id": "a"}\n{"id": 3}\n')
    with pytest.raises(UsageError, match=r"origins\.jsonl, line 2: an origin is an object"):
        Origins(tmp_path, 2).of([1])
    with pytest.raises(UsageError, match="no line for document 2"):
        Origins(tmp_path, 3).of([2])
    file.write_text('{"id": "a"}\n')
    with pytest.raises(UsageError, match="1 lines for 2 documents"):
        list(Origins(tmp_path, 2).records())


def test_questions_that_cannot_be_answered_are_refused(folder: Path) -> None:
    told = history(folder)
    with pytest.raises(UsageError, match="count from 1"):
        told.batch(0)
    with pytest.raises(UsageError, match=f"the run has {STEPS} of them"):
        told.batch(STEPS + 1)
    with pytest.raises(UsageError, match="SOURCE:NUMBER"):
        told.document("nothing", STEPS)
    assert told.document("code:7", STEPS) == told.document(f"code/{NAMES[2]} 7", STEPS)
