"""The board's application: one page, one stream of events, and who may read them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hanok import __version__
from hanok.serve.board.watch import Watch

STYLES = ("base.css", "board.css")
SCRIPTS = ("strings.js", "store.js", "scale.js", "plot.js", "runs.js", "main.js")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def create_board(roots: Sequence[Path], *, watch: Watch | None = None, hosts: Iterable[str] | None = ()) -> Starlette:
    """Return the application over the runs below `roots`.

    `hosts` are the Host names that are answered beside the loopback ones; None answers every name.
    """
    watch = watch or Watch(roots)
    page, policy = document([str(root) for root in roots])
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    async def index(request: Request) -> Response:
        return Response(page, headers=headers, media_type="text/html")

    async def events(request: Request) -> Response:
        quiet = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(watch.events(), headers=quiet, media_type="text/event-stream")

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    app = Starlette(routes=[Route("/", index), Route("/events", events), Route("/health", health)])
    app.state.watch = watch
    if hosts is not None:
        app.add_middleware(KnownHost, names=LOOPBACK | {name.lower() for name in hosts})
    return app


def document(roots: Sequence[str]) -> tuple[str, str]:
    """Return the page, with all its parts inside, and the policy that lets nothing else run."""
    folder = resources.files("hanok.serve.board") / "page"

    def joined(names: Sequence[str]) -> str:
        return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)

    style, script = joined(STYLES), f'"use strict";\n(() => {{\n{joined(SCRIPTS)}\n}})();\n'
    facts = json.dumps({"roots": list(roots), "version": __version__}, ensure_ascii=False).replace("<", "\\u003c")
    text = (folder / "index.html").read_text(encoding="utf-8")
    for mark, part in (("/*STYLE*/", style), ("{FACTS}", facts), ("/*SCRIPT*/", script)):
        text = text.replace(mark, part)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class KnownHost:
    """Refuses requests under a Host name that is not ours.

    A page on the web can point its own name at 127.0.0.1 and read what a local server answers (DNS rebinding); its
    requests carry that name.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http":
            given = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
            if len(given) != 1 or bare(given[0]) not in self._names:
                await PlainTextResponse("this board does not answer under that Host name\n", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def bare(host: str) -> str:
    """Return a Host header without its port: `[::1]:8000` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
