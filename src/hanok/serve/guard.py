"""Who may come in: a Host that is ours, and, where there is a key, nobody without it."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hanok.serve.errors import ApiError

PUBLIC = frozenset({"/", "/health", "/live", "/ready"})  # everything else needs the key, known route or not
MAX_HEAD = 64 * 1024  # bytes; the HTTP library bounds only a head that comes in pieces
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(:[0-9]{1,5})?")
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"


class HostGuard:
    """Refuses a head that is too large, and a Host header that is malformed, missing, or not among the allowed names.

    A page on the web can point its own name at 127.0.0.1 and then read a local server's answers (DNS rebinding); its
    requests carry that name here, which is how they are told apart.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str] | None) -> None:
        self._app = app
        self._allowed = None if allowed is None else LOOPBACK | {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
            size += sum(len(name) + len(value) for name, value in scope["headers"])
            if size > MAX_HEAD:
                error = ApiError(431, f"the head of the request has more than {MAX_HEAD // 1024} KB")
                await error.response(scope["path"])(scope, receive, send)
                return
            hosts = Headers(scope=scope).getlist("host")
            match = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
            if match is None:
                error = ApiError(400, "the Host header is missing or malformed")
                await error.response(scope["path"])(scope, receive, send)
                return
            if self._allowed is not None and match[1].lower() not in self._allowed:
                error = ApiError(403, "this server does not answer under that Host name; see allowed_hosts")
                await error.response(scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


class KeyGuard:
    """Refuses every path but the public ones without one of the keys (`Authorization: Bearer` or `x-api-key`)."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._admits(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            error = ApiError(
                401,
                "this server needs its API key: Authorization: Bearer <key>",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await error.response(scope["path"])(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _admits(self, scope: Scope) -> bool:
        if scope["path"] in PUBLIC:
            return True
        headers = Headers(scope=scope)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = headers.get("x-api-key", "")
        # Both sides are digests, and all keys are looked at: neither length, content nor place shows in the time.
        digest = _digest(given.strip().encode())
        known = [hmac.compare_digest(digest, own) for own in self._digests]
        if not given or not any(known):
            return False
        scope.setdefault("state", {})["tenant"] = digest.hex()  # whose request this is, without the key itself
        return True


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
