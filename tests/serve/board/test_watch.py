"""Runs are found, told once, and told anew when they begin anew; what a reader holds stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hanok.serve.board.find import find_runs
from hanok.serve.board.names import NAMES, figures
from hanok.serve.board.run import MOST, Kept, Run, thinned
from hanok.serve.board.watch import PORTION, Reader, Watch
from hanok.train.hook.metrics import PRETRAIN

from .writing import record, write


def news(reader: Reader) -> list[dict[str, Any]]:
    reader.watch.look()
    return [event for event in reader.news() if not event.get("ready")]


def steps(events: list[dict[str, Any]]) -> list[int]:
    return [row["step"] for event in events for row in event["records"]]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch([tmp_path / "runs"], search=0.0)


def test_names_are_those_of_the_loop_turned_round() -> None:
    assert {ours: theirs for theirs, ours in NAMES.items()} == PRETRAIN
    assert figures({"step": 3, "train/loss": 2.0, "said": "x", "ok": True, "gone": None}) == {
        "step": 3,
        "loss": 2.0,
        "gone": None,
    }
    assert [figures({"step": wrong}) for wrong in (None, "1", True, -1, 1.5)] == [None] * 5


def test_runs_appear_grow_and_finish_under_one_name(watch: Watch, tmp_path: Path) -> None:
    reader = Reader(watch)
    assert news(reader) == []
    folder = write(tmp_path / "runs" / "pretrain-0a1b.partial", 1, 3)
    (first,) = news(reader)
    assert (
        first["run"] == "pretrain-0a1b" and first["reset"] and first["state"] == "live" and steps([first]) == [1, 2, 3]
    )
    assert news(reader) == []
    write(folder, 4, 5)
    (second,) = news(reader)
    assert steps([second]) == [4, 5] and not second["reset"]
    folder = folder.rename(tmp_path / "runs" / "pretrain-0a1b")
    (folder / "artifact.json").write_text("{}")
    (third,) = news(reader)
    assert third == {"run": "pretrain-0a1b", "reset": False, "state": "done", "records": [], "samples": []}
    assert steps(news(Reader(watch))) == [1, 2, 3, 4, 5]
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert news(reader) == [{"gone": "pretrain-0a1b"}]


def test_a_resumed_run_replaces_what_was_told(watch: Watch, tmp_path: Path) -> None:
    folder, reader = write(tmp_path / "runs" / "a", 1, 9), Reader(watch)
    (folder / "samples.jsonl").write_text('{"step": 9, "completion": "\\ud800"}\n')
    (event,) = news(reader)
    assert event["samples"] == [{"step": 9, "completion": "\ud800"}]
    (folder / "metrics.jsonl").unlink()
    write(folder, 1, 4)
    (event,) = news(reader)
    assert event["reset"] and steps([event]) == [1, 2, 3, 4] and len(event["samples"]) == 1


def test_where_runs_are_looked_for(tmp_path: Path) -> None:
    rung = write(tmp_path / "one" / "ladder-1.partial" / "checkpoints" / "rung-2", 1, 1)
    write(tmp_path / "one" / ".hidden" / "a", 1, 1)
    write(tmp_path / "one" / "b" / "c" / "d" / "e" / "too-deep", 1, 1)
    alone = write(tmp_path / "two", 1, 1)
    os.symlink(tmp_path, tmp_path / "one" / "loop")
    assert find_runs([tmp_path / "one"]) == {"ladder-1/checkpoints/rung-2": rung}
    assert find_runs([alone]) == {"two": alone}
    both = find_runs([tmp_path / "one", alone, tmp_path / "missing"])
    assert list(both) == ["one/ladder-1/checkpoints/rung-2", "two"]


def test_two_folders_of_one_name_are_two_runs(tmp_path: Path) -> None:
    places = [write(tmp_path / place / "runs", 1, 1) for place in "ab"]
    assert sorted(find_runs(places).values()) == places
    old, new = write(tmp_path / "c" / "x", 1, 1), write(tmp_path / "c" / "x.partial", 1, 1)
    os.utime(old / "metrics.jsonl", (1, 1))
    assert find_runs([tmp_path / "c"]) == {"x": new}


def test_silence(tmp_path: Path) -> None:
    run = Run("a", write(tmp_path / "a", 1, 2))
    run.read()
    then = (tmp_path / "a" / "metrics.jsonl").stat().st_mtime
    assert [run.state(then + 59), run.state(then + 61)] == ["live", "stopped"]
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/dt": 100.0, "train/loss": 1}\n')
    run.read()
    assert [run.state(then + 900), run.state(then + 1100)] == ["live", "stopped"]


def test_a_long_run_is_thinned_and_told_in_portions(tmp_path: Path) -> None:
    rows = [(n, record(n)) for n in range(1, 2001)]
    rows[400][1].pop("train/loss")
    kept = thinned([(n, figures(row) or {}) for n, row in rows])
    assert (
        len(kept) == 1001 + 500 - 1 + (400 % 2)
        and kept[0][0] == 1
        and [n for n, _ in kept[-1000:]] == list(range(1001, 2001))
    )
    assert 401 in [n for n, _ in kept]
    keeper = Kept()
    for n in range(10):
        keeper.add({"n": n})
    keeper.rows = keeper.rows[::2]
    assert [row["n"] for row in keeper.after(6)] == [6, 8]
    watch = Watch([write(tmp_path / "a", 1, PORTION + 5)], search=0.0)
    events = news(Reader(watch))
    assert [len(event["records"]) for event in events] == [PORTION, 5] and [event["reset"] for event in events] == [
        True,
        False,
    ]
    assert MOST > PORTION


def test_the_board_waits_for_no_torch() -> None:
    code = "import sys, hanok.cli.ui, hanok.serve.board; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
