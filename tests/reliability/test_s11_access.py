"""S11: without the key everything is shut but what is named as open, however a path is spelt."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server, app
from hanok.serve.guard import PUBLIC

from .probe import PATIENCE

KEY = "a-key-that-nobody-guesses"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X"]
SPELLINGS = [
    *("{}", "{}/", "{}?", "{}?a=/health", "/{}", "//{}", "/./{}", "/health/..{}", "/health/..;{}", "/live/%2e%2e{}"),
    *("{};/health", "{}%00", "{}%2f", "{}#/health", "/health?x={}", "/health%3f{}", "/%68ealth{}", "{}\\..\\health"),
    *("http://127.0.0.1{}", "http://x/health?{}", "{}/health", "/ready/{}", "{}%20", "/;{}", "*{}"),
]


@pytest.fixture(scope="module")
def locked(llm: LLM) -> Iterator[Server]:
    with Server(llm, port=0, model_name="tiny", api_key=KEY) as running:
        yield running


def paths(found: Any) -> Iterator[str]:
    """Yield the path of every route of an application, of the routers inside it, too."""
    for route in getattr(found, "routes", ()):
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if getattr(route, "path", None):
            yield str(route.path).replace("{name:path}", "tiny").replace("{name}", "tiny")
        if inner is not None and inner is not found:
            yield from paths(inner)


class Line:
    """A connection that is used again as long as the server keeps it."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._open()

    def ask(self, method: str, target: str, headers: str = "") -> int:
        """Return the status of a request whose first line is exactly this; 0 if it was hung up on."""
        text = f"{method} {target} HTTP/1.1\r\nHost: {self._parts.netloc}\r\n{headers}Content-Length: 0\r\n\r\n"
        try:
            self._link.sendall(text.encode("latin-1"))
            line = self._file.readline()
            if not line:
                raise ConnectionError
            size, closes = 0, False
            while (header := self._file.readline().strip().lower()) and header:
                if header.startswith(b"content-length:"):
                    size = int(header.split(b":")[1])
                closes = closes or header == b"connection: close"
            if method != "HEAD":
                self._file.read(size)
            if closes:
                raise ConnectionError
            return int(line.split()[1])
        except ConnectionError:
            self.close()
            self._open()
            return int(line.split()[1]) if line else 0

    def close(self) -> None:
        self._file.close()
        self._link.close()

    def _open(self) -> None:
        self._link = socket.create_connection((self._parts.hostname, self._parts.port or 80), timeout=PATIENCE)
        self._file = self._link.makefile("rb")


@pytest.mark.parametrize("spelt", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_every_route_method_and_spelling_needs_the_key(locked: Server, spelt: int) -> None:
    routes = sorted(set(paths(locked.app)) - PUBLIC)
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics", "/openapi.json"} <= set(routes)
    line, asked = Line(locked.url), 0
    for path, spelling in [*((path, "{}") for path in routes), *itertools.product(routes[:spelt], SPELLINGS)]:
        target = spelling.format(path)
        # A target whose path is a public one is open, whatever stands in its query.
        shut = target.split("?")[0].split("#")[0] not in PUBLIC and not target.startswith("http://x/health")
        for method in METHODS if spelling == "{}" else ("GET", "POST"):
            status = line.ask(method, target)
            assert status in ((401, 400, 403) if shut else (200, 400, 401, 403, 405)), (method, target, status)
            asked += 1
    line.close()
    assert asked > 10 * len(routes)


@pytest.mark.parametrize(
    "header", ["", "X-Api-Key: \r\n", "Authorization: Bearer \r\n", "Authorization: Basic YTpi\r\n"]
)
def test_wrong_credentials_are_none(locked: Server, header: str) -> None:
    line = Line(locked.url)
    assert line.ask("GET", "/v1/models", header) == 401
    assert line.ask("GET", "/v1/models", f"Authorization: Bearer {KEY}\r\n") == 200
    for wrong in (KEY[:-1], KEY + "x", KEY.upper(), f"{KEY},{KEY}", f"{KEY}\x00", "null", "undefined"):
        assert line.ask("GET", "/v1/models", f"Authorization: Bearer {wrong}\r\n") in (400, 401)
    line.close()


def test_control_without_the_guard_the_same_routes_are_open(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    class Open:
        def __init__(self, inner: Any, **_: Any) -> None:
            self._inner = inner

        async def __call__(self, *args: Any) -> None:
            await self._inner(*args)

    monkeypatch.setattr(app, "KeyGuard", Open)
    with Server(llm, port=0, model_name="tiny", api_key=KEY) as server:
        line = Line(server.url)
        assert line.ask("GET", "/v1/models") == 200
        line.close()
