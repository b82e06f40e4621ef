"""The application in front of the workers: reads a request, chooses who answers it, and passes the answer through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from hanok.core.errors import UsageError
from hanok.serve.body import INLINE, MAX_BODY, PATIENCE, SECONDS
from hanok.serve.dialect import dialect_of
from hanok.serve.errors import ApiError
from hanok.serve.fetch import Answer, Broken, Headers, Unreachable, ask
from hanok.serve.router.fleet import Fleet, Worker
from hanok.serve.router.prefix import chain, prompt_of
from hanok.serve.router.totals import Totals
from hanok.serve.stream import STALL, first_of, gone

HOP = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())
DROPPED = HOP | {b"expect", b"content-length"}  # of a request; `ask` says how long the body is
LOST = "the worker that answered this request has ended; send it again"
SCRAPE = 10.0  # seconds for a worker's metrics


class Proxy:
    """Routes requests to workers; `inflight` counts those under way, and with `draining` no more are taken."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._totals = Totals()
        fleet.ended = self._ended
        self.inflight = self.requests = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        self.inflight += 1
        try:
            if path == "/live":
                await reply(send, 200, b'{"status":"ok"}')
            elif path in ("/ready", "/health", "/v1/health"):
                self._check()
                await reply(send, 200, b'{"status":"ok"}')
            elif path == "/metrics" or path.startswith("/admin/"):
                await self._everywhere(scope, receive, send)
            else:
                await first_of(self._route(scope, await read(receive), send), gone(receive))
        except (ApiError, UsageError) as refused:
            error = refused if isinstance(refused, ApiError) else ApiError(400, str(refused))
            text = dialect_of(path).refusal(error.status, error.message, error.param, error.code)
            await reply(send, error.status, text.encode(), headers=error.headers)
        except TimeoutError:
            pass  # a client that reads nothing any more: its connection is closed
        finally:
            self.inflight -= 1

    async def drained(self, grace: float) -> None:
        """Take nothing more and wait until all requests are answered, or `grace` seconds are over."""
        self.draining = True
        deadline = time.monotonic() + grace
        while self.inflight and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def _ended(self, worker: Worker) -> None:
        self._totals.ended(worker.number)

    def _check(self) -> None:
        if self.draining:
            raise ApiError(503, "the server is shutting down", code="draining", headers={"Retry-After": "5"})
        if not self._fleet.ready:
            raise ApiError(503, "no worker is ready", code="loading", headers={"Retry-After": "5"})

    async def _route(self, scope: Scope, body: bytes, send: Send) -> None:
        """Send a request to the worker that suits it; one that takes no connection is passed over for another."""
        headers = forwarded(scope)
        salt = b"\n".join(value for name, value in headers if name in (b"authorization", b"x-api-key"))
        text = prompt_of(body) if len(body) <= INLINE else await asyncio.to_thread(prompt_of, body)
        links = chain(text, salt)
        passed: set[int] = set()
        self.requests += 1
        while True:
            self._check()
            loads = {worker.number: worker.inflight for worker in self._fleet.ready if worker.number not in passed}
            if not loads:
                raise ApiError(503, "no worker is ready", code="loading", headers={"Retry-After": "5"})
            worker = self._fleet.workers[self._fleet.prefixes.choose(links, loads)]
            self._fleet.prefixes.note(links, worker.number)
            worker.inflight += 1
            try:
                await self._forward(worker, scope, headers, body, send)
                return
            except Unreachable:  # nothing was sent, so that asking another is safe
                passed.add(worker.number)
            finally:
                worker.inflight -= 1

    async def _forward(self, worker: Worker, scope: Scope, headers: Headers, body: bytes, send: Send) -> None:
        """Pass a request on and its answer back, piece by piece; a worker lost on the way is told as an error."""
        begun = streams = False
        try:
            async with ask(worker.address, scope["method"], target(scope), headers, body) as answer:
                streams = answer.header(b"content-type").startswith(b"text/event-stream")
                await put(send, start(answer))
                begun = True
                async for piece in answer.pieces():
                    await put(send, {"type": "http.response.body", "body": piece, "more_body": True})
        except Broken:
            if not begun:
                raise ApiError(502, LOST, code="worker_lost", headers={"Retry-After": "1"}) from None
            if not streams:
                return  # an answer cut short: the connection is closed before its end
            event = dialect_of(scope["path"]).failure(502, LOST, None, "worker_lost")
            # An empty line first: the worker may have died within an event.
            await put(send, {"type": "http.response.body", "body": f"\n\n{event}".encode(), "more_body": True})
        await put(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _everywhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask every ready worker, so that each checks who asks; metrics are added up, else the worst answer counts."""
        body = await read(receive)
        self._check()
        workers = self._fleet.ready
        found = await asyncio.gather(*(self._one(worker, scope, body) for worker in workers))
        status, headers, text = max(found, key=lambda answer: answer[0])
        if scope["path"] == "/metrics" and status == 200:
            texts = {w.number: page.decode() for w, (_, _, page) in zip(workers, found, strict=True)}
            rendered = await asyncio.to_thread(self._totals.render, texts, self._own())
            await reply(send, 200, rendered, media=CONTENT_TYPE_LATEST)
        else:
            await put(send, {"type": "http.response.start", "status": status, "headers": headers})
            await put(send, {"type": "http.response.body", "body": text})

    async def _one(self, worker: Worker, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        try:
            limit = SCRAPE if scope["path"] == "/metrics" else None  # loading another model takes its time
            async with (
                asyncio.timeout(limit),
                ask(worker.address, scope["method"], target(scope), forwarded(scope), body) as answer,
            ):
                return answer.status, start(answer)["headers"], await answer.read()
        except (Broken, Unreachable, TimeoutError):
            raise ApiError(502, f"worker {worker.number} gave no answer", code="worker_lost") from None

    def _own(self) -> list[tuple[str, str, str, float]]:
        fleet = self._fleet
        return [
            ("hanok:workers_ready", "gauge", "Workers that take requests", len(fleet.ready)),
            ("hanok:worker_restarts", "counter", "Workers started again", sum(w.restarts for w in fleet.workers)),
            ("hanok:router_requests", "counter", "Requests passed on", self.requests),
            ("hanok:router_prefix_hits", "counter", "Requests sent where their prefix is", fleet.prefixes.hits),
        ]


def target(scope: Scope) -> str:
    """Return path and query as the client wrote them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return (path + (b"?" + query if query else b"")).decode("latin-1")


def forwarded(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the client's headers but those that concern its own connection."""
    return [(name, value) for name, value in scope["headers"] if name not in DROPPED]


def start(answer: Answer) -> dict[str, Any]:
    """Return the message that begins an answer like a worker's; the date is the listener's own."""
    headers = [(name, value) for name, value in answer.headers if name not in HOP and name != b"date"]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


async def put(send: Send, message: dict[str, Any]) -> None:
    """Send, or give up on a client that has read nothing for half a minute."""
    async with asyncio.timeout(STALL):
        await send(message)


async def reply(
    send: Send, status: int, body: bytes, *, media: str = "application/json", headers: Mapping[str, str] | None = None
) -> None:
    """Send an answer of the router's own."""
    fields = {"content-type": media, "content-length": str(len(body)), "cache-control": "no-store", **(headers or {})}
    raw = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await put(send, {"type": "http.response.start", "status": status, "headers": raw})
    await put(send, {"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """Return the body; what is too large is read to a limit and refused, so that the refusal can be heard."""
    pieces, size, more = [], 0, True
    while more and size <= PATIENCE:
        try:
            async with asyncio.timeout(SECONDS):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, "the body did not arrive in time") from None
        if message["type"] != "http.request":
            raise ApiError(400, "the body ended too early")
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size <= MAX_BODY:
            pieces.append(piece)
    if size > MAX_BODY:
        raise ApiError(413, f"the body is larger than {MAX_BODY // 2**20} MB", code="body_too_large")
    return b"".join(pieces)
