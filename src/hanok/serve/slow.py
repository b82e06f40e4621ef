"""HTTP connections that do not wait for ever: for a request's head, or for a reader that takes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 15.0  # seconds from a connection's, or a next request's, first byte until its head is complete
READER = 15.0  # seconds that a full socket may stay full


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which by itself closes only connections that idle between two requests."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD, self._drop)

    def data_received(self, data: bytes) -> None:
        """Take the data; stop waiting if the head is complete, begin to wait if a new one has begun."""
        super().data_received(data)
        self._look_at_head()

    def on_response_complete(self) -> None:
        """Begin to wait if the next request's head has come in part, behind the one that was answered."""
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._look_at_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._forget_head()
        self._forget_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the reader."""
        super().pause_writing()
        if self._reader is None:
            self._reader = self.loop.call_later(READER, self._drop)

    def resume_writing(self) -> None:
        """The reader has taken something."""
        self._forget_reader()
        super().resume_writing()

    def _look_at_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD, self._drop)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _forget_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _drop(self) -> None:
        """End the connection at once: closing it in order would wait for the very client that does not move."""
        self.transport.abort()
