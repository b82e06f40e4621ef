"""S1: a client that leaves takes its work with it, from half a head on; the rest is in `serve/test_disconnect.py`."""

from __future__ import annotations

import random
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from hanok.serve import Server

from .probe import CHAT, LONG, MESSAGES, TEXT, holdings, open_request, send, settle, until

SHAPES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {**LONG, "messages": MESSAGES}),
    (CHAT, {**LONG, "messages": MESSAGES, "stream": True}),
    (CHAT, {**LONG, "messages": MESSAGES, "n": 3}),
    (CHAT, {**LONG, "messages": MESSAGES, "n": 3, "stream": True, "logprobs": True, "top_logprobs": 5}),
    (TEXT, {**LONG, "prompt": ["a", "b " * 100], "echo": True, "logprobs": 2}),
    (TEXT, {**LONG, "prompt": "a", "stream": True}),
]
BODY = b'{"prompt": "a", "max_tokens": 9}'


def half_request(url: str, rng: random.Random) -> socket.socket:
    """Send a part of a request: of its head, or of its body."""
    parts = urlsplit(url)
    head = f"POST {TEXT} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    whole = head.encode() + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
    link = socket.create_connection((parts.hostname, parts.port or 80), timeout=20)
    link.sendall(whole[: rng.randrange(1, len(whole))])
    return link


@pytest.mark.parametrize("count", [24, pytest.param(1000, marks=pytest.mark.slow)])
def test_disconnects_at_any_moment_leave_nothing(server: Server, count: int) -> None:
    assert send(server.url, TEXT, {"prompt": "a", "max_tokens": 2})[0] == 200
    settle(server)
    before = holdings(server)
    rng = random.Random(5)
    links: list[socket.socket] = []
    for number in range(count):
        if number % 4 == 3:
            links.append(half_request(server.url, rng))
        else:
            links.append(open_request(server.url, *SHAPES[number % len(SHAPES)]))
        time.sleep(rng.random() * 0.01)
        while links and rng.random() < 0.5:
            links.pop(rng.randrange(len(links))).close()
    for link in links:
        link.close()
    settle(server)
    until(lambda: holdings(server)["tasks"] <= before["tasks"], "no task is left over")
    until(lambda: holdings(server)["files"] <= before["files"], "no connection is left over")
    assert send(server.url, TEXT, {"prompt": "a", "max_tokens": 2})[0] == 200
