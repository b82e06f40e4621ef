"""Mixtures of prepared folders: weights, schedules, domains, curricula and what a configuration refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.history import History
from hanok.text.data.rows import Documents
from hanok.text.data.schedule import Change, admissions, changes, resolve, weights_at
from hanok.text.data.score import SCORES
from hanok.text.data.score.stored import Stored, write_scores
from hanok.text.data.shard import Shards, write_shards
from hanok.text.data.sources import Layout, MixtureConfig, mixed, open_stream
from hanok.text.data.stream import RowStream, TokenStream


def prepared(path: Path, sizes: list[int], *, sources: list[str] | None = None, low: int = 0, high: int = 100) -> Path:
    """Write documents of random tokens in [low, high), with origins if sources are named."""
    rng = random.Random(str(path.name))
    documents = [[rng.randrange(low, high) for _ in range(size)] for size in sizes]
    write_shards(path / "train", documents, vocab_size=1000, shard_tokens=500)
    if sources is not None:
        lines = [
            json.dumps({"id": f"{path.name}-{i}", "source": s, "metadata": {"quality": -i}})
            for i, s in enumerate(sources)
        ]
        (path / "train" / "origins.jsonl").write_text("\n".join(lines) + "\n")
    return path


def opened(config: dict[str, Any], tokens: Path, rows: int | None, **layout: Any) -> RowStream:
    shape = {"length": 16, "batch": 4, **layout}
    stream = open_stream(MixtureConfig.parse(config), tokens, Layout(**shape))
    if rows is not None:
        stream.span(rows)
    return stream


def realised(stream: RowStream, first: int, last: int) -> dict[str, float]:
    """Return each source's share of the targets in some rows of the global order."""
    targets: dict[str, int] = {}
    for row in range(first, last):
        source, inner = stream.locate(row)
        part = stream.parts[source]
        targets[part.name] = targets.get(part.name, 0) + sum(len(piece) - 1 for piece in part.rows.pieces(inner))
    return {name: count / sum(targets.values()) for name, count in targets.items()}


def test_weights_left_out_divide_the_rest() -> None:
    base = {"web": 60.0, "code": 30.0, "math": 10.0}
    assert resolve({}, base) == pytest.approx([0.6, 0.3, 0.1])
    assert resolve({"math": 0.4}, base) == pytest.approx([0.4, 0.2, 0.4])
    assert resolve({"web": 2, "code": 1, "math": 1}, base) == pytest.approx([0.5, 0.25, 0.25])
    assert resolve({"code": 0}, base) == pytest.approx([6 / 7, 0, 1 / 7])
    with pytest.raises(UsageError, match="did you mean 'math'"):
        resolve({"maths": 0.4}, base)
    with pytest.raises(UsageError, match=r"add up to 1\.4"):
        resolve({"web": 0.7, "math": 0.7}, base)
    with pytest.raises(UsageError, match="at least 0"):
        resolve({"web": -0.1}, base)
    with pytest.raises(UsageError, match="not all be 0"):
        resolve(dict.fromkeys(base, 0.0), base)


def test_changes_jump_or_ramp() -> None:
    later = [Change(start=0.5, weights={"b": 0.9}), Change(start=0.8, ramp=0.1, weights={"b": 0.1})]
    points = changes({"a": 1.0, "b": 1.0}, {}, later)
    asked = {at: weights_at(points, at, after=True)[1] for at in (0.0, 0.49, 0.5, 0.8, 0.85, 0.9, 1.0)}
    wanted = {0.0: 0.5, 0.49: 0.5, 0.5: 0.9, 0.8: 0.9, 0.85: 0.5, 0.9: 0.1, 1.0: 0.1}
    assert asked == pytest.approx(wanted)
    assert weights_at(points, 0.5, after=False)[1] == 0.5
    with pytest.raises(UsageError, match="before the one ahead"):
        MixtureConfig.parse(
            {"schedule": [{"start": 0.2, "ramp": 0.4, "weights": {"a": 1}}, {"start": 0.5, "weights": {"a": 1}}]}
        )
    with pytest.raises(UsageError, match="end after the run"):
        MixtureConfig.parse({"schedule": [{"start": 0.8, "ramp": 0.4, "weights": {"a": 1}}]})


def test_a_domain_is_upsampled_at_the_end(tmp_path: Path) -> None:
    """Domains of one folder by their origins; the last tenth of the run has the shares that were asked for."""
    sources = ["web"] * 90 + ["math"] * 10
    folder = prepared(tmp_path / "all", [40] * 100, sources=sources)
    config = {"domains": True, "schedule": [{"start": 0.9, "weights": {"math": 0.6}}]}
    stream = opened(config, folder, 2000)
    early, late = realised(stream, 0, 1800), realised(stream, 1800, 2000)
    assert early["math"] == pytest.approx(0.1, abs=0.005)
    assert late["math"] == pytest.approx(0.6, abs=0.01)
    with pytest.raises(UsageError, match=r"has no origins\.jsonl"):
        opened(config, prepared(tmp_path / "bare", [40] * 100), 100)


def test_shares_are_of_tokens_even_where_rows_are_not_full(tmp_path: Path) -> None:
    """A source whose documents leave rows half empty gets more rows for the same share of what is learned."""
    tight, loose = prepared(tmp_path / "tight", [17] * 200), prepared(tmp_path / "loose", [11] * 200)
    sources = {"tight": str(tight), "loose": str(loose)}
    stream = opened({"sources": sources, "weights": {"tight": 0.5, "loose": 0.5}}, tight, 2000, packed=True)
    assert realised(stream, 0, 2000)["loose"] == pytest.approx(0.5, abs=0.001)
    rows = stream.shares.counts(2000)  # the control: equally many rows would not do
    assert rows[1] / 2000 == pytest.approx(16 / 26, abs=0.001)


def test_a_curriculum_admits_the_hard_ones_bit_by_bit(tmp_path: Path) -> None:
    """The longest document of any batch grows as the competence does, and the end is the natural mixture."""
    rng = random.Random(0)
    folder = prepared(tmp_path / "all", [rng.randint(4, 60) for _ in range(400)])
    stream = opened({"curriculum": {"by": "length", "buckets": 4, "pace": 0.5}}, folder, 4000, packed=True)
    sizes = np.diff(Documents(Shards(folder / "train")).ends(), prepend=0)
    history = History(stream, 100)

    def longest(batch: int) -> int:
        return max(int(sizes[one.document]) for one in history.batch(batch))

    seen = [longest(batch) for batch in (1, 4, 8, 13, 20)]
    assert seen == sorted(seen) and seen[0] < seen[2] < seen[-1] == sizes.max()
    natural = {part.name: part.rows.targets for part in stream.parts}
    end = realised(stream, 3000, 4000)
    assert end == pytest.approx({name: n / sum(natural.values()) for name, n in natural.items()}, abs=0.01)
    backwards = opened({"curriculum": {"by": "length", "buckets": 4, "descending": True}}, folder, 4000, packed=True)
    assert min(int(sizes[one.document]) for one in History(backwards, 100).batch(1)) > np.median(sizes)


def test_competence_is_the_papers() -> None:
    """c(t) = sqrt(t (1 - c0^2) / T + c0^2): the share in use at the points where a bucket is admitted."""
    points = admissions([10.0, 20.0, 30.0, 40.0], pace=0.8)
    for (at, weights), reached in zip(points, (0.1, 0.3, 0.6, 1.0), strict=True):
        assert sum(weights) / 100 == pytest.approx(reached)
        assert reached == pytest.approx(np.sqrt(at / 0.8 * (1 - 0.1**2) + 0.1**2))
    assert points[0][0] == 0 and points[-1][0] == pytest.approx(0.8)


def test_scores_say_what_they_promise(tmp_path: Path) -> None:
    folder = tmp_path / "s" / "train"
    documents = [[1] * 50, [2, 3, 4], [1, 1, 9, 9], [], [7] * 3]
    write_shards(folder, documents, vocab_size=10, shard_tokens=20)
    (folder / "origins.jsonl").write_text(
        "".join(json.dumps({"id": str(i), "metadata": {"q": i / 2}}) + "\n" for i in range(5))
    )
    shards = Shards(folder)

    def score(word: str, **options: Any) -> list[float]:
        part = SCORES[word]
        return list(part(part.Config(**options))(shards))

    assert score("length") == [50, 3, 4, 0, 3]
    counts = {t: sum(d.count(t) for d in documents) for t in range(10)}
    wanted = [-np.mean([np.log(counts[t] / 60) for t in d]) if d else 0.0 for d in documents]
    assert score("rarity") == pytest.approx(wanted)
    assert score("metadata", key="q") == [0, 0.5, 1, 1.5, 2]
    with pytest.raises(UsageError, match="no number 'p'"):
        score("metadata", key="p")
    with pytest.raises(UsageError, match="hanok data score makes them"):
        score("stored", path=str(tmp_path / "none"))
    file = write_scores(tmp_path / "scores", np.arange(5.0), shards, by="loss")
    assert score("stored", path=str(tmp_path / "scores")) == [0, 1, 2, 3, 4]
    raw = bytearray(file.read_bytes())
    raw[3] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UsageError, match="has changed since"):
        score("stored", path=str(tmp_path / "scores"))
    with pytest.raises(UsageError, match="too few documents"):
        opened({"curriculum": {"buckets": 8}}, tmp_path / "s", 100)


def test_a_stored_curriculum_begins_with_low_scores(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "d", [20] * 100)
    scores = np.random.default_rng(0).permutation(100).astype(float)
    write_scores(tmp_path / "scores", scores, Shards(folder / "train"), by="loss")
    by = Stored.Config(path=str(tmp_path / "scores")).to_dict()
    stream = opened({"curriculum": {"by": by, "buckets": 5}}, folder, 4000, packed=True)
    early = {one.document for one in History(stream, 8).batch(1)}
    assert {int(scores[number]) for number in early} <= set(range(20))


def test_one_source_is_what_a_token_stream_reads(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "d", [30] * 50)
    stream = opened({}, folder, None)
    plain = TokenStream(folder / "train", length=16, batch=4)
    for _ in range(5):
        assert stream.next_batch().tokens.equal(plain.next_batch().tokens)


def test_folders_on_the_command_line_become_sources(tmp_path: Path) -> None:
    a, b = str(prepared(tmp_path / "a", [30] * 50)), str(prepared(tmp_path / "b", [30] * 50))
    config, files = mixed(MixtureConfig(), [a, b])
    assert config.sources == {"a": a, "b": b} and files == [a] and set(config.digests) == {"a", "b"}
    assert mixed(MixtureConfig(), [a]) == (MixtureConfig(), [a])
    assert mixed(MixtureConfig(), ["x.txt"]) == (MixtureConfig(), ["x.txt"])
    named, files = mixed(MixtureConfig(sources={"x": b}), [])
    assert files == [b] and named.digests
    for config, given in ((MixtureConfig(sources={"x": b}), [a, b]), (MixtureConfig(), [a, b, "x.txt"])):
        with pytest.raises(UsageError, match="several prepared folders"):
            mixed(config, given)
    with pytest.raises(UsageError, match="leave --data out"):
        mixed(MixtureConfig(sources={"x": b}), ["x.txt"])
    with pytest.raises(UsageError, match="holds no token shards"):
        mixed(MixtureConfig(sources={"x": str(tmp_path)}), [])


def test_changed_or_foreign_data_is_refused(tmp_path: Path) -> None:
    a, b = prepared(tmp_path / "a", [30] * 50), prepared(tmp_path / "b", [30] * 50)
    pinned = MixtureConfig(sources={"a": str(a), "b": str(b)}).pin()
    state = open_stream(pinned, a, Layout(16, 4)).state()
    other = open_stream(MixtureConfig(sources={"a": str(a)}), a, Layout(16, 4))
    with pytest.raises(UsageError, match="the saved data position has fingerprint"):
        other.restore(state)
    (a / "tokenizer.json").write_text("{}")
    (b / "tokenizer.json").write_text("{ }")
    with pytest.raises(UsageError, match="another tokenizer"):
        open_stream(pinned, a, Layout(16, 4))
    (b / "tokenizer.json").write_text("{}")
    prepared(tmp_path / "b", [31] * 50)
    with pytest.raises(UsageError, match="has changed since this run was configured"):
        open_stream(pinned, a, Layout(16, 4))
    with pytest.raises(UsageError, match="must not hold '/'"):
        MixtureConfig.parse({"sources": {"a/b": str(a)}})
