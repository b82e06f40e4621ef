from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.pipeline.config import SourceConfig
from hanok.text.data.pipeline.find import content_of, find_sources
from hanok.text.data.pipeline.page import Read, read_unit
from hanok.text.data.pipeline.plan import Plan

ROWS: list[dict[str, Any]] = [{"text": f"문서 {i} " + "word " * (i % 7), "url": f"u{i}", "n": i} for i in range(40)]


def write(file: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if file.suffix == ".gz":
        raw = gzip.compress(raw)
    elif file.suffix == ".zst":
        raw = b"".join(pa.compress(half, "zstd", asbytes=True) for half in (raw[:501], raw[501:]))
    elif file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=7)
        return file
    file.write_bytes(raw)
    return file


def read(*paths: Path | str, size: int = 1 << 20, **options: Any) -> list[Read]:
    config = SourceConfig(**options)
    plan = Plan.make(find_sources([str(path) for path in paths]), size=size)
    return [row for unit in plan.units for row in read_unit(unit, config)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json.gz", "a.parquet"])
def test_every_format_gives_the_same_pages_in_segments_of_any_size(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name)
    for size in (1, 100, 997, 1 << 20):
        pages = [row.page for row in read(file, size=size)]
        assert [page.text for page in pages if page] == [row["text"] for row in ROWS]
        assert [page.metadata for page in pages if page] == [{"url": row["url"]} for row in ROWS]
        assert [page.id for page in pages if page] == [f"{name}:{i}" for i in range(1, 41)]
    assert len(Plan.make(find_sources([str(file)]), size=100).units) > 1 or name.endswith(("gz", "zst"))


def test_lines_that_are_blank_or_unfinished_or_end_in_two_signs_are_one_row_each(tmp_path: Path) -> None:
    raw = b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n{"text": "b"}\n{"text": "c"}'
    (tmp_path / "a.jsonl").write_bytes(raw)
    (tmp_path / "empty.jsonl").write_bytes(b"")
    for size in range(1, len(raw) + 2):
        rows = read(tmp_path, size=size)
        assert [(row.id, row.page.text) for row in rows if row.page] == [
            (f"{tmp_path.name}/a.jsonl:{line}", text) for line, text in ((1, "a"), (4, "b"), (5, "c"))
        ]


def test_korean_files_are_read_wherever_they_are_cut(tmp_path: Path) -> None:
    rows = [{"text": "plain"}, *({"text": f"한옥 {i}"} for i in range(20))]
    (tmp_path / "a.jsonl").write_bytes("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode("cp949"))
    (tmp_path / "b.txt").write_bytes("기와\n".encode("cp949"))
    for size in (1, 50, 1000):
        assert [row.page.text for row in read(tmp_path, size=size) if row.page] == [
            *(r["text"] for r in rows),
            "기와\n",
        ]


BAD = [
    (b'{"text": "a"}\n{"text": \n', "line 2: not valid JSON", "not JSON"),
    (b'{"text": "a"}\n[1]\n', "line 2: a row must be a JSON object, not list", "no object"),
    (b'{"text": "a"}\n{"txt": "b"}\n', "line 2: no column 'text' among ['txt']; did you mean", "no text column"),
    (b'{"text": "a"}\n{"text": 3}\n', "line 2: column 'text' must hold a string, not int", "text is no string"),
    ('{"text": "한"}\n'.encode() + b'{"text": "\xff\xff"}\n', "line 2: byte 11 is neither", "not UTF-8"),
    (b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", "line 2: not valid JSON", "not JSON"),
]


@pytest.mark.parametrize(("raw", "message", "reason"), BAD)
def test_a_broken_row_stops_the_run_or_is_dropped_by_name(
    tmp_path: Path, raw: bytes, message: str, reason: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(raw)
    with pytest.raises(UsageError, match=re.escape(message)):
        read(tmp_path / "a.jsonl")
    good, bad = read(tmp_path / "a.jsonl", bad_rows="drop")
    assert good.page is not None and bad.page is None and bad.reason == reason and bad.id == "a.jsonl:2"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UsageError, match=re.escape(str(file))):
        read(file, bad_rows="drop")


def test_halves_of_characters_are_joined_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud83c\\udfe0"}\n{"text": "b\\ud83c"}\n')
    whole, half = read(tmp_path / "a.jsonl")
    assert whole.page and half.page and whole.page.text == "a🏠" and half.page.text == "b\ufffd" and half.repaired == 1


def test_names_do_not_depend_on_where_a_folder_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ("here", "there/deep"):
        write(tmp_path / root / "corpus" / "x" / "a.jsonl", ROWS[:1])
    here, there = tmp_path / "here" / "corpus", tmp_path / "there" / "deep" / "corpus"
    assert list(find_sources([str(here)]).values()) == ["corpus/x/a.jsonl"] == list(find_sources([str(there)]).values())
    assert content_of([str(here)]) == content_of([str(there)])
    assert list(find_sources([f"{here}/*/*.jsonl"]).values()) == ["x/a.jsonl"]
    both = find_sources([str(here / "x" / "a.jsonl"), str(there / "x" / "a.jsonl"), str(here)])
    assert list(both.values()) == ["a.jsonl", "a.jsonl~2"], "a file that is given twice is read once"
    monkeypatch.chdir(here)
    assert list(find_sources(["."]).values()) == ["corpus/x/a.jsonl"]
    with pytest.raises(UsageError, match="no data"):
        find_sources([])
    with pytest.raises(UsageError, match=r"cannot read '.csv' files"):
        (here / "a.csv").write_text("x")
        find_sources([str(here / "a.csv")])


def test_a_column_names_the_domain(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"body": "x", "from": "law"}, {"body": "y"}])
    rows = read(file, column="body", source_column="from", metadata=["from"])
    assert (
        [row.source for row in rows] == ["law", "a.jsonl"] and rows[0].page and rows[0].page.metadata == {"from": "law"}
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library's own
def test_datasets_are_streamed_from_a_folder_and_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    write(tmp_path / "named" / "train.jsonl")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    for name in ("named", "saved"):
        rows = read(f"hf:{tmp_path / name}", metadata=["n"])
        assert [row.page.metadata["n"] for row in rows if row.page] == list(range(40)), name
        assert len({row.id for row in rows}) == 40
        before = content_of([f"hf:{tmp_path / name}"])
        (tmp_path / name / "more").write_text("x")
        assert content_of([f"hf:{tmp_path / name}"]) != before
    with pytest.raises(UsageError, match="hf:NAME"):
        read("hf:a:b:c:d")
