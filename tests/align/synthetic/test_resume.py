"""A run that is stopped anywhere, by anything, ends with the rows of one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanok.align.synthetic.ask import Reply
from hanok.align.synthetic.journal import Journal, seal, unseal
from hanok.core.errors import UsageError

from .scripted import PLAN, Scripted, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[dict[str, object]], int]:
    """Return the journal of a run that nothing disturbed, its rows, and how many questions it asked."""
    file, writer = tmp_path_factory.mktemp("whole") / "journal", Scripted()
    rows = run(file, writer)
    return file.read_bytes(), rows, writer.asked


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["id"] for row in rows]


def test_a_run_makes_the_rows_that_were_asked_for_each_once(
    whole: tuple[bytes, list[dict[str, object]], int],
) -> None:
    rows = whole[1]
    assert len(rows) == PLAN.rows == len(set(ids(rows))) == len({row["prompt"] for row in rows})
    assert any(str(row["parents"][0]).startswith("seed") for row in rows)  # type: ignore[index]
    assert max(int(str(row["generation"])) for row in rows) > 1


def cuts(content: bytes, count: int) -> list[int]:
    """Return places to cut at: random ones, and right before, at and behind the ends of some lines."""
    rng = random.Random(5)
    ends = [at for at, byte in enumerate(content) if byte == ord("\n")]
    near = [end + shift for end in rng.sample(ends, 4) for shift in (0, 1, 2)]
    return sorted({0, len(content), *near, *(rng.randrange(len(content)) for _ in range(count))})


def test_every_beginning_of_a_journal_leads_to_the_same_rows(
    whole: tuple[bytes, list[dict[str, object]], int], tmp_path: Path
) -> None:
    # A kill leaves a beginning of the file: lines are appended, and nothing is ever changed.
    content, rows, asked = whole
    for cut in cuts(content, 8):
        file, writer = tmp_path / f"{cut}", Scripted()
        file.write_bytes(content[:cut])
        kept = [unseal(line) for line in content[:cut].splitlines(keepends=True)]
        assert run(file, writer) == rows
        assert file.read_bytes() == content or sorted(file.read_bytes().splitlines()) == sorted(content.splitlines())
        assert writer.asked == asked - sum("key" in record for record in kept if record)  # nothing is asked twice


def test_without_the_cut_of_a_torn_line_what_follows_it_is_lost(
    whole: tuple[bytes, list[dict[str, object]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, rows, _ = whole
    cut = content.index(b"\n", len(content) // 2) - 5
    file = tmp_path / "journal"
    file.write_bytes(content[:cut])
    monkeypatch.setattr(os, "ftruncate", lambda *_: None)
    assert run(file, Scripted()) == rows  # this run has all in memory
    monkeypatch.undo()
    control = Scripted()
    with Journal(file) as damaged:  # the torn line hides what was written behind it
        assert damaged.cut > 1000
    assert run(file, control) == rows and control.asked > 10


@pytest.mark.parametrize("damage", ["flip", "zeros", "swap"])
def test_damage_is_seen_and_made_again(
    damage: str, whole: tuple[bytes, list[dict[str, object]], int], tmp_path: Path
) -> None:
    content, rows, _ = whole
    at = len(content) // 2
    file = tmp_path / "journal"
    if damage == "flip":
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    elif damage == "zeros":
        file.write_bytes(content[:at] + b"\0" * 3000)
    else:
        first = content.index(b'{"round": 1,')
        file.write_bytes(content[:first] + content[content.index(b"\n", first) + 1 :])
    assert run(file, Scripted()) == rows


def test_a_reply_to_another_question_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.write_bytes(seal({"key": "0.0.0", "asked": "something else", "text": "a", "finished": True}))
    with pytest.raises(UsageError, match="answers another question"):
        run(file, Scripted())


def test_a_full_disk_leaves_a_journal_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "journal"
    with Journal(file) as journal:
        journal.add("0.0.0", "h", Reply("한옥\n"))
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
        with pytest.raises(OSError, match="disk full"):
            journal.add("0.0.1", "h", Reply("b"))
        monkeypatch.undo()
        journal.add("0.0.1", "h", Reply("b"))
    with Journal(file) as again:
        assert again.cut == 0
        assert [again.reply(key, "h") for key in ("0.0.0", "0.0.1")] == [Reply("한옥\n"), Reply("b")]


real = os.write


def records(file: Path) -> list[bytes]:
    """Return the lines of a journal that are whole."""
    return [line for line in file.read_bytes().splitlines(keepends=True) if unseal(line)] if file.exists() else []


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_double_nothing(
    whole: tuple[bytes, list[dict[str, object]], int], tmp_path: Path
) -> None:
    rng, file, kills, before = random.Random(11), tmp_path / "journal", 0, list[bytes]()
    command = [sys.executable, str(Path(__file__).with_name("scripted.py")), str(file)]
    while kills < 20:
        process = subprocess.Popen(command)
        started, size = time.monotonic(), len(before)
        while len(records(file)) <= size + rng.randrange(4) and process.poll() is None:
            assert time.monotonic() - started < 120
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed often enough"
        kills += 1
        now = records(file)
        assert now[: len(before)] == before and len(now) > len(before)
        before = now
    writer = Scripted()
    assert run(file, writer) == whole[1]
    assert sorted(records(file)) == sorted(whole[0].splitlines(keepends=True))
