"""The board over HTTP: who may read it, what its stream says, and that it ends when asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hanok.core.errors import UsageError
from hanok.serve.board import BoardServer
from hanok.serve.board.app import bare, create_board
from hanok.serve.board.watch import Watch

from .writing import write


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)


def ask(url: str, path: str, host: str) -> tuple[int, dict[str, str], str]:
    connection = connect(url)
    connection.request("GET", path, headers={"Host": host})
    reply = connection.getresponse()
    found = reply.status, dict(reply.getheaders()), reply.read().decode()
    connection.close()
    return found


def events(url: str) -> Iterator[dict[str, Any]]:
    connection = connect(url)
    connection.request("GET", "/events")
    reply = connection.getresponse()
    assert reply.status == 200 and (reply.getheader("content-type") or "").startswith("text/event-stream")
    try:
        while line := reply.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        reply.close()
        connection.close()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardServer]:
    root = tmp_path / "runs"
    with BoardServer([root], port=0, watch=Watch([root], pulse=0.02, search=0.02)) as running:
        yield running


def test_the_stream_follows(board: BoardServer, tmp_path: Path) -> None:
    stream = events(board.url)
    assert next(stream) == {"ready": True}
    folder = write(tmp_path / "runs" / "a.partial", 1, 2)
    assert [row["step"] for row in next(stream)["records"]] == [1, 2]
    write(folder, 3, 3)
    assert [row["loss"] for row in next(stream)["records"]] == [4.85]
    late = events(board.url)
    assert len(next(late)["records"]) == 3 and next(late) == {"ready": True}
    late.close()  # type: ignore[attr-defined]
    write(folder, 4, 4)
    assert [row["step"] for row in next(stream)["records"]] == [4]


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:1", 200), ("localhost", 200), ("[::1]:8", 200), ("evil.example", 403), ("", 403)]
)
def test_only_our_own_names_are_answered(board: BoardServer, host: str, status: int) -> None:
    for path in ("/", "/events" if status == 403 else "/health"):
        assert ask(board.url, path, host)[0] == status


def test_without_the_guard_a_foreign_name_would_be_answered(tmp_path: Path) -> None:
    """Control arm: it is the guard that refuses."""
    board = BoardServer([tmp_path], port=0)
    board.app = create_board([tmp_path], hosts=None)
    with board:
        assert ask(board.url, "/", "evil.example")[0] == 200


def test_the_page_holds_everything_and_lets_nothing_else_run(board: BoardServer) -> None:
    status, headers, text = ask(board.url, "/", "localhost")
    policy = headers["content-security-policy"]
    assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy
    assert not [mark for mark in ("/*STYLE*/", "{FACTS}", "/*SCRIPT*/") if mark in text]
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


def test_bare_names() -> None:
    assert [bare(host) for host in ("a:1", "[::1]:2", "a", "[::1", "")] == ["a", "::1", "a", "::1", ""]


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no folder"):
        BoardServer([tmp_path / "file"])
    with pytest.raises(UsageError, match="--open"):
        BoardServer([tmp_path], host="0.0.0.0")
    BoardServer([tmp_path], host="0.0.0.0", open=True)


def test_the_command_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hanok", "ui", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    try:
        assert str(tmp_path) in process.stderr.readline()
        url = process.stderr.readline().split()[-1]
        stream = events(url.rstrip("/"))
        assert next(stream) == {"ready": True}
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(20) == 0, time.monotonic() - began
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
