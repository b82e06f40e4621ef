"""What the tests of this folder ask a server: a stream to watch, whether it is idle, and what it holds."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hanok.serve import Server
from hanok.serve.gateway import Gateway

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "What is a fox?"}]
LONG = {"max_tokens": 200, "ignore_eos": True, "temperature": 0}
PATIENCE = 120.0  # seconds that a test waits for what should come at once; no bound on how fast a machine is


Answer = tuple[int, dict[str, str], bytes]


def send(
    url: str, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """Return (status, headers in lower case, body) of one request; a body that is no bytes is sent as JSON."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if data is not None else {}
    try:
        link.request(method or ("GET" if data is None else "POST"), path, data, {**sent, **(headers or {})})
        answer = link.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        link.close()


def open_request(url: str, path: str, body: Any) -> socket.socket:
    """Send a request and return the socket without reading the answer."""
    parts = urlsplit(url)
    data = json.dumps(body).encode()
    link = socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE)
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    link.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return link


def error_of(answer: Answer) -> dict[str, Any]:
    """Return the error of an answer, which must have exactly OpenAI's four keys."""
    error: dict[str, Any] = json.loads(answer[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    return error


class Neighbour:
    """A greedy stream with log-probs, read in a thread while the test does something else to the server."""

    def __init__(self, server: Server, body: dict[str, Any] | None = None) -> None:
        self._url = server.url
        self._body = {"prompt": "the fox", **LONG, "stream": True, "logprobs": 2, **(body or {})}
        self.chunks: list[Any] = []
        self.done = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait(self) -> list[Any]:
        """Return what came, without the parts that differ from answer to answer."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the stream hangs"
        return self.chunks

    @property
    def over(self) -> bool:
        """Whether the stream has ended."""
        return not self._thread.is_alive()

    def _read(self) -> None:
        for event in events(self._url, TEXT, self._body):
            if event == "[DONE]":
                self.done = True
            else:
                self.chunks.append(json.loads(event).get("choices", event))


def events(url: str, path: str, body: dict[str, Any]) -> Iterator[str]:
    """Yield the data of each event of a streamed answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        link.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        answer = link.getresponse()
        assert answer.status == 200, answer.read()
        for line in answer:
            if line.startswith(b"data: "):
                yield line[6:].decode().rstrip("\n")
    finally:
        link.close()


def until(condition: Any, what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def gate(server: Server) -> Gateway:
    """Return the gate of the server's first model."""
    found: Gateway = server.app.state.catalogue.first
    return found


def is_idle(server: Server) -> bool:
    """Say whether nothing runs, waits, or is admitted."""
    assert server.worker is not None
    stats = server.worker.stats()
    return not (stats.running or stats.waiting or gate(server).inflight)


def settle(server: Server) -> None:
    """Wait until the server is idle, and check that its memory is whole."""
    until(lambda: is_idle(server) and is_whole(server), "the server is idle, and its memory whole")


def is_whole(server: Server) -> bool:
    """Say whether pages, tables and sequences agree; a request that comes in meanwhile can make it seem otherwise."""
    assert server.worker is not None
    try:
        server.worker.engine.check()
    except (AssertionError, RuntimeError):
        return False
    return True


def tasks(server: Server) -> int:
    """Return how many tasks the server's event loop has."""
    assert server._loop is not None

    async def count() -> int:
        return len(asyncio.all_tasks())

    return asyncio.run_coroutine_threadsafe(count(), server._loop).result(PATIENCE)


def holdings(server: Server) -> dict[str, int]:
    """Return how many files, threads and tasks there are; files only where the system lists them."""
    gc.collect()
    listed = Path("/proc/self/fd")
    files = len(os.listdir(listed)) if listed.exists() else 0
    return {"files": files, "threads": threading.active_count(), "tasks": tasks(server)}


def resident() -> int | None:
    """Return the bytes of memory that this process holds, where the system says so."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
