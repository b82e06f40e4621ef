"""Asking a server over HTTP: our own over loopback, and one that misbehaves on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hanok.cli import execute
from hanok.core.errors import HanokError, UsageError
from hanok.serve import Server
from hanok.serve.remote import Remote, delay

from .conftest import ANSWERS

SAID = [answer.split("</think>")[-1] for answer in ANSWERS.values()]  # thoughts come apart from what is said

OK = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
Script = Callable[[int], tuple[int, dict[str, str], bytes]]


@contextmanager
def misbehaving(script: Script) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve what a function of the request's number says; yield the address and the headers of what came."""
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with lock:
                seen.append({key.lower(): value for key, value in self.headers.items()})
                status, headers, body = script(len(seen) - 1)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def good(text: str = "fine") -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()


def test_our_own_server_is_found_and_answers(server: Server) -> None:
    remote = Remote.find(server.api_url, parallel=4)
    assert remote.name == f"tiny at {server.api_url}"
    asked = [{"messages": [{"role": "user", "content": text}], "max_tokens": 120, "temperature": 0} for text in ANSWERS]
    found = dict(remote.each(asked))
    assert [found[at] for at in range(len(asked))] == [(answer, "stop") for answer in SAID]
    assert remote.chat([{"role": "user", "content": "What is a hanok?"}], max_tokens=2, temperature=0)[1] == "length"


def test_data_is_synthesised_by_an_endpoint(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = tmp_path / "seeds.jsonl"
    rows = [{"prompt": text, "answer": answer} for text, answer in zip(ANSWERS, SAID, strict=True)]
    rows[1]["answer"] = "a tent"
    seeds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["data", "synthesize", server.api_url, "--seeds", str(seeds), "method.kind=solve", "method.samples=1"]
    words += ["temperature=0", "max_tokens=120", "rewards=[exact_match]", "-o", str(tmp_path / "runs"), "--json", "-q"]
    assert execute(words) == 0
    made = json.loads(capsys.readouterr().out)
    kept = [json.loads(line) for line in (Path(made["path"]) / "train.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in kept] == [rows[0]["prompt"], rows[2]["prompt"]]
    assert kept[0]["model"] == f"tiny at {server.api_url}" and made["rows"] == 2


def test_what_may_pass_is_tried_again_with_the_waits_that_are_asked_for() -> None:
    waits: list[float] = []
    said = [(429, {"Retry-After": "7"}, b"slow down"), (503, {}, b""), (200, {}, b"{not json"), good()]
    with misbehaving(lambda number: said[number]) as (url, seen):
        remote = Remote(url, "m", "secret", pause=waits.append)
        assert remote.chat([{"role": "user", "content": "hi"}]) == ("fine", "stop")
    assert waits[0] == 7 and 0.75 <= waits[1] <= 1.25 and len(waits) == 3
    assert all(headers["authorization"] == "Bearer secret" for headers in seen) and "secret" not in repr(remote)


def test_what_cannot_pass_is_an_error_at_once_and_keys_are_not_carried_elsewhere() -> None:
    with misbehaving(lambda number: (401, {}, b"who are you")) as (url, seen):
        with pytest.raises(HanokError, match=r"401 .*who are you"):
            Remote(url, "m").chat([])
        assert len(seen) == 1
        astray = misbehaving(lambda number: (302, {"Location": url}, b""))
        with astray as (other, _), pytest.raises(HanokError, match="302"):
            Remote(other, "m", "secret").chat([])
        assert len(seen) == 1


def test_replies_that_came_are_given_out_before_the_error() -> None:
    with misbehaving(lambda number: good(str(number)) if number < 3 else (400, {}, b"no more")) as (url, seen):
        found = []
        with pytest.raises(HanokError, match="no more"):
            for at, (text, _) in Remote(url, "m", parallel=1).each([{"messages": []}] * 10):
                found.append((at, text))
        assert found == [(0, "0"), (1, "1"), (2, "2")] and len(seen) == 4  # and the others were never sent


def test_a_server_that_is_not_there_is_given_up() -> None:
    waits: list[float] = []
    with pytest.raises(HanokError, match="no answer after 3 tries"):
        Remote("http://127.0.0.1:9/v1", "m", tries=3, pause=waits.append).chat([])
    assert len(waits) == 2 and delay(50, None) == 60 and delay(1, "Fri, 31 Dec") == 1
    with pytest.raises(UsageError, match="http"):
        Remote("ftp://somewhere", "m")
