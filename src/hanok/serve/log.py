"""One name per request, by which client and server can speak of it, and word of it when it is over."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
HIDDEN = frozenset({"/health", "/v1/health", "/ready", "/live", "/metrics"})  # asked so often that they say nothing


@dataclass(frozen=True)
class Told:
    """A request that is over: no header but the trace's, no query and no content, so no secret either."""

    name: str
    method: str
    path: str
    status: int  # 0 where the client left before an answer
    begun: int  # nanoseconds since 1970
    seconds: float
    note: Mapping[str, Any]  # model, prompt_tokens, completion_tokens
    parent: str  # the caller's `traceparent`

    def line(self) -> str:
        """Return name, method, path, status, tokens and seconds as one line."""
        tokens = f"{self.note.get('prompt_tokens', 0)}+{self.note.get('completion_tokens', 0)} tokens"
        return f"{self.name} {self.method} {self.path} {self.status or 'unanswered'} {tokens} {self.seconds:.3f} s"


class RequestLog:
    """Gives every request a name (`X-Request-Id`: the client's own, if it is a plain word); tells of it at the end."""

    def __init__(self, app: ASGIApp, tell: Sequence[Callable[[Told], None]] = ()) -> None:
        self._app, self._tell = app, tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its name."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if NAME.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = name
        begun, clock, status = time.time_ns(), time.monotonic(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = name
                if scope["path"].startswith("/v1/messages"):
                    headers["request-id"] = name  # where Anthropic's clients look
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            if self._tell and scope["path"] not in HIDDEN:
                told = _told(scope, name, status, begun, time.monotonic() - clock)
                for tell in self._tell:
                    tell(told)


def _told(scope: Scope, name: str, status: int, begun: int, seconds: float) -> Told:
    path = scope.get("raw_path", b"").decode("ascii", "replace")[:200]  # still quoted: it cannot break a line
    parent = Headers(scope=scope).get("traceparent", "")[:200]
    return Told(name, scope["method"], path, status, begun, seconds, scope["state"], parent)
