"""S9: who is slow waits alone: half a request is given up, a stalled reader is let go, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server, gateway, stream

from .probe import CHAT, MESSAGES, PATIENCE, TEXT, is_idle, send, settle, until

WORDY = {"max_tokens": 400, "ignore_eos": True, "stream": True, "logprobs": True, "top_logprobs": 20, "n": 8}


def stalled(url: str, body: dict[str, Any]) -> socket.socket:
    """Ask for a long stream over a connection with a small window, and never read."""
    parts = urlsplit(url)
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(PATIENCE)
    link.connect((parts.hostname, parts.port))
    data = json.dumps({"messages": MESSAGES, **body}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    link.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return link


@pytest.mark.parametrize(
    ("count", "places"),
    [(1, 12), pytest.param(50, 404, marks=pytest.mark.slow), pytest.param(50, 12, marks=pytest.mark.slow)],
)
def test_stalled_readers_block_nobody_and_are_let_go(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, count: int, places: int
) -> None:
    monkeypatch.setattr(stream, "STALL", 2.0)
    engine = {"max_sequences": places}  # each reader asks for eight answers
    with Server(llm, port=0, model_name="tiny", max_queue=1000, engine=engine) as server, ExitStack() as links:
        for _ in range(count):
            links.enter_context(stalled(server.url, WORDY))
        for _ in range(5):
            assert send(server.url, TEXT, {"prompt": "a", "max_tokens": 3})[0] == 200
        settle(server)  # although nobody has read a byte, and every connection is still open


def test_what_a_slow_reader_is_behind_is_bounded(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = {"n": 4, "max_tokens": 80}

    def generated(behind: float) -> int:
        monkeypatch.setattr(gateway, "BEHIND", behind)
        with Server(llm, port=0, model_name="tiny", grace=0.0, engine={"max_sequences": 12}) as server:
            link = stalled(server.url, {**WORDY, **brief})
            assert server.worker is not None
            until(lambda: server.worker.stats().finished >= 4, "the engine is done with it")  # type: ignore[union-attr]
            count = server.worker.stats().generated_tokens
            link.close()
        return count

    monkeypatch.setattr(stream.EventStream, "_send", _never)
    assert generated(20) < 4 * 80, "the engine stops for a client that is too far behind"
    assert generated(float("inf")) == 4 * 80, "the control: without the bound everything piles up"


async def _never(self: stream.EventStream, send: Any, event: str) -> None:
    await asyncio.sleep(PATIENCE)


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_half_requests_hold_up_nobody(server: Server, count: int) -> None:
    parts = urlsplit(server.url)
    halves = [b"POST /v1/comp", b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"", b"POST /v1/completions HTTP/1.1\r\nHost: "]
    halves.append(
        f"POST {TEXT} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        "Content-Length: 100\r\n\r\n{".encode()
    )
    links = []
    for number in range(count):
        link = socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE)
        link.sendall(halves[number % len(halves)])
        links.append(link)
    for _ in range(5):
        assert send(server.url, TEXT, {"prompt": "a", "max_tokens": 3})[0] == 200
    assert is_idle(server)
    for link in links:
        link.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["head", "body", "nothing"])
def test_half_requests_are_given_up_by_the_clock(server: Server, path: str) -> None:
    parts = urlsplit(server.url)
    head = f"POST {TEXT} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    sent = {"head": head, "body": f"{head}Content-Length: 100\r\n\r\n{{", "nothing": ""}[path]
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE) as link:
        link.sendall(sent.encode())
        start = time.monotonic()
        answer = link.recv(4096)
        assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0]
        assert time.monotonic() - start > 1, "but not at once: who is slow gets a chance"
