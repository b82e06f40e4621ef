"""A file that is appended to, cut, rewritten, replaced or gone is still followed, each line once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from hanok.core.artifact import atomic_write
from hanok.core.log import Log
from hanok.serve.board.tail import Tail, parse

from .writing import line


def numbers(tail: Tail) -> tuple[list[int], bool]:
    rows, anew = tail.read()
    return [row["n"] for row in rows], anew


def lines(first: int, last: int, word: str = "") -> str:
    return "".join(line({"n": n, "word": word}) for n in range(first, last))


def test_each_line_once_wherever_writes_are_cut(tmp_path: Path) -> None:
    path, draw = tmp_path / "f", random.Random(1)
    tail, seen = Tail(path), []
    assert tail.read() == ([], False)
    data, at = lines(0, 200, "가나다").encode(), 0
    while at < len(data):
        size = draw.randrange(1, 90)
        with path.open("ab") as file:
            file.write(data[at : at + size])
        at += size
        rows, anew = tail.read()
        seen += [row["n"] for row in rows]
        assert not anew
    assert seen == list(range(200)) and tail.read() == ([], False)


def test_a_line_that_a_kill_cut_spoils_itself_and_the_next_only(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text(lines(0, 2) + '{"n": 2, "wo' + lines(3, 4) + lines(4, 6))
    assert numbers(Tail(path)) == ([0, 1, 4, 5], False)


@pytest.mark.parametrize("how", ["atomic", "in place"])
def test_what_is_rewritten_is_told_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "f"
    path.write_text(lines(0, 9))
    tail = Tail(path)
    assert numbers(tail)[0] == list(range(9))
    text = lines(0, 5) + lines(5, 30, "after the checkpoint")
    if how == "atomic":
        atomic_write(path, text)
    else:
        path.write_text(text)
    assert numbers(tail) == (list(range(30)), True)
    assert numbers(tail) == ([], False)


def test_a_shorter_file_is_told_anew_and_an_empty_one_clears(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text(lines(0, 9))
    tail = Tail(path)
    tail.read()
    os.truncate(path, 0)
    assert numbers(tail) == ([], True)
    path.write_text(lines(7, 8))
    assert numbers(tail) == ([7], False)


def test_a_folder_that_is_renamed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Log(tmp_path / "a").metrics(1, n=1)
    tail = Tail(tmp_path / "a" / "metrics.jsonl")
    tail.read()
    (tmp_path / "a").rename(tmp_path / "b")
    assert tail.read() == ([], False)
    tail.path = tmp_path / "b" / "metrics.jsonl"
    Log(tmp_path / "b").metrics(2, n=2)
    assert numbers(tail) == ([2], False)


def test_lines_that_are_no_objects() -> None:
    assert [parse(text) for text in (b"", b"[1]", b"3", b"{", b"\xff\xfe", b"null", b"[" * 100_000)] == [None] * 7
    assert parse(b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 1.5}') == {"a": None, "b": None, "c": None, "d": 1.5}
