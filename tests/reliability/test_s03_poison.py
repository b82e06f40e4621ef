"""S3: one bad request hurts only itself: never a 5xx, and a stream beside it gets the same tokens to the last bit."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings

from hanok.engine.engine import Engine
from hanok.serve import Server

from .corpus import Case, cases
from .probe import PATIENCE, TEXT, Neighbour, resident, send, settle


def fuzz(server: Server, wanted: Iterable[Case], statuses: list[int]) -> None:
    """Send cases over connections that are kept while the server keeps them."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    for path, body, headers in wanted:
        try:
            link.request("POST", path, body, {"Content-Type": "application/json", **headers})
            answer = link.getresponse()
            text = answer.read()
        except (http.client.HTTPException, ConnectionError):  # refused so early that the rest was not read
            link.close()
            statuses.append(0)
            continue
        statuses.append(answer.status)
        assert answer.status < 500, (path, body[:500], headers, text[:500])
        assert b"Traceback" not in text and b"0x7" not in text and b"/site-packages" not in text, text[:500]
        if answer.status >= 400 and answer.status != 499:
            assert json.loads(text), (path, body[:200], text[:200])
    link.close()


@pytest.mark.parametrize("count", [80, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_request_breaks_the_server_or_its_neighbour(server: Server, count: int) -> None:
    quiet = Neighbour(server).wait()
    settle(server)
    before, statuses = resident(), list[int]()
    wanted, watched = cases(count, seed=count), 0
    share = [iter(wanted[at::4]) for at in range(4)]
    with ThreadPoolExecutor(4) as pool:
        while any(jobs := [pool.submit(fuzz, server, batch, statuses) for part in share if (batch := _next(part, 50))]):
            neighbour = Neighbour(server)
            for job in jobs:
                job.result()
            assert neighbour.wait() == quiet and neighbour.done, "a neighbour's stream was disturbed"
            watched += 1
    settle(server)
    assert len(statuses) == count and watched >= 1
    assert statuses.count(0) < count / 20, "a request is answered, not hung up on"
    assert statuses.count(200) > 5 and statuses.count(400) > count / 4, statuses
    after = resident()
    if before is not None and after is not None:
        assert after - before < 100 * 2**20, "memory grew"
    assert server.worker is not None and server.worker.alive


def _next(part: Any, size: int) -> list[Case]:
    return list(itertools.islice(part, size))


def test_control_an_engine_that_lets_errors_through_fails_its_neighbours(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.step
    poison = server.worker.engine if server.worker is not None else None

    def fragile(self: Engine, **how: bool) -> Any:
        if any(s.request.seed == 666 for s in self.scheduler.running):
            raise RuntimeError("poisoned")
        return step(self, **how)

    assert poison is not None
    monkeypatch.setattr(Engine, "step", fragile)
    neighbour = Neighbour(server, {"max_tokens": 400})
    while not neighbour.chunks and not neighbour.over:
        pass
    answer = send(server.url, TEXT, {"prompt": "a", "max_tokens": 3, "seed": 666})
    neighbour.wait()
    assert answer[0] == 500 and not neighbour.done
    monkeypatch.undo()
    settle(server)


RAW = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # a TLS greeting
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA\x00B: c\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"\r\n" * 10_000,
]


@pytest.mark.parametrize("data", RAW, ids=[str(data[:40]) for data in RAW])
def test_broken_http_is_refused_and_the_next_is_served(server: Server, data: bytes) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE) as link:
        line = b""
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            line = link.makefile("rb").readline()
        except OSError:
            pass  # it hung up before it had read all of this
    assert line == b"" or line.split()[1].startswith(b"4"), line
    assert send(server.url, "/health")[0] == 200


def test_chunked_bodies_arrive_whole_and_are_bounded(server: Server) -> None:
    parts = urlsplit(server.url)
    head = f"POST {TEXT} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    head += "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'{"prompt": "a", "max_tokens": 2}'
    rng, pieces = random.Random(1), b""
    while body:
        size = rng.randrange(1, 5)
        piece, body = body[:size], body[size:]
        pieces += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    assert b" 200 " in _first_line(server, head.encode() + pieces + b"0\r\n\r\n")
    large = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    assert b" 413 " in _first_line(server, head.encode() + large * 9 + b"0\r\n\r\n")


def _first_line(server: Server, data: bytes) -> bytes:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE) as link:
        link.sendall(data)
        return link.makefile("rb").readline()


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(server: Server) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="pip install 'hanok[fuzz]'")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def probe(case: Any) -> None:
            answer = case.call(timeout=PATIENCE)
            tried.append(answer.status_code)
            assert answer.status_code < 500, (case.method, case.path, case.body, answer.text[:300])

        probe()
    assert len(tried) > 100
    settle(server)
