"""What every HTTP listener here has in common: how it is set up, waited for, and asked to end."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from hanok.core.errors import HanokError
from hanok.serve.slow import TimedProtocol

START = 30.0  # seconds for the listener to come up


def http_server(app: Any, **settings: Any) -> uvicorn.Server:
    """Return a quiet server of an application that names no software, speaks no web sockets and drops slow clients."""
    quiet: dict[str, Any] = {"http": TimedProtocol, "ws": "none", "lifespan": "off", "log_config": None}
    return uvicorn.Server(uvicorn.Config(app, **quiet, access_log=False, server_header=False, **settings))


def await_listener(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Return when the server that runs in a thread takes connections; `HanokError` if it does not come up."""
    deadline = time.monotonic() + START
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise HanokError("the HTTP listener did not start")
        time.sleep(0.005)


@contextlib.contextmanager
def on_signals(hear: Callable[[], None], *, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Call `hear` on SIGINT and SIGTERM, and `reload` on SIGHUP, inside the `with` block."""

    def handler(number: int, frame: FrameType | None) -> None:
        hear()

    handlers: dict[int, Any] = {signal.SIGINT: handler, signal.SIGTERM: handler}
    if reload is not None and hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = lambda number, frame: reload()
    before = {number: signal.signal(number, chosen) for number, chosen in handlers.items()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
