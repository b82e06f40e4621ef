"""Server-sent events, and what happens when the client has gone: the work stops, streamed or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from hanok.serve.dialect import dialect_of
from hanok.serve.errors import ApiError, ClientGone

STALL = 15.0  # seconds that a client may leave its socket full before it counts as gone

T = TypeVar("T")


class EventStream(Response):
    """Sends each event, then what ends a stream of this API; calls `close` however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], close: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client leaves, whichever comes first."""
        try:
            await first_of(self._pump(send, scope["path"]), gone(receive))
        finally:
            self._close()

    async def _pump(self, send: Send, path: str) -> None:
        dialect = dialect_of(path)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for event in self._events:
                await self._send(send, event)
            if dialect.ending:
                await self._send(send, dialect.ending)
        except ApiError as error:
            # Too late for a status: the error is the last event, and the usual ending does not follow it.
            await self._send(send, dialect.failure(error.status, error.message, error.param, error.code))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, event: str) -> None:
        async with asyncio.timeout(STALL):
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})


async def while_listening(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; if the client leaves first, cancel the work and raise `ClientGone`."""

    async def leave() -> T:
        await gone(request.receive)
        raise ClientGone

    return await first_of(work, leave())


async def gone(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def first_of(*works: Coroutine[Any, Any, T]) -> T:
    """Run works together, cancel the rest when the first is done, and return (or raise) what it did."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task.done())
        return winner.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
