"""Running a router and its workers: in a thread behind a `with`, or in front until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Self

import uvicorn

from hanok import __version__
from hanok.core.errors import HanokError, UsageError
from hanok.serve.bind import listen, url_of
from hanok.serve.config import ServeConfig
from hanok.serve.listener import await_listener, http_server, on_signals
from hanok.serve.router.fleet import CLOSE, Fleet, Worker
from hanok.serve.router.proxy import Proxy


class Router:
    """Several workers behind one port: `with Router(path, workers=2, port=0) as router: ... router.url ...`.

    The port answers 503 from the first moment; `start` returns when every worker has loaded the model. Leaving the
    block finishes what is running (up to `grace` seconds), then ends the workers.
    """

    def __init__(self, source: str | Path, config: ServeConfig | None = None, *, workers: int, **settings: Any) -> None:
        if workers < 1:
            raise UsageError(f"at least one worker has to answer, not {workers}")
        if sys.platform == "win32":
            raise UsageError("several workers need Unix sockets, which this system has not: serve with one")
        named = {"model_name": Path(source).resolve().name if Path(source).exists() else str(source)}
        self.config = ServeConfig.parse({**named, **_given(config), **settings})
        self.fleet = Fleet(str(source), self.config, workers)
        self.proxy = Proxy(self.fleet)
        self.url = ""
        self._http: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def workers(self) -> list[Worker]:
        """Return the workers, the dead ones included."""
        return self.fleet.workers

    @property
    def alive(self) -> bool:
        """Say whether the listener still runs."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(grace=None if kind is None else 0.0)

    def start(self) -> Self:
        """Listen, start the workers, and return when all of them are ready."""
        listener = listen(self.config.host, self.config.port, tries=self.config.ports)
        self.url = url_of(listener)
        pair = {"ssl_keyfile": self.config.ssl_keyfile, "ssl_certfile": self.config.ssl_certfile}
        tls = {name: str(path) for name, path in pair.items() if path is not None}
        if tls:
            self.url = self.url.replace("http:", "https:", 1)
        quiet = {"log_level": "warning", "timeout_keep_alive": 30, "timeout_graceful_shutdown": 5}
        self._http = http_server(self.proxy, **quiet, **tls)

        async def run() -> None:
            assert self._http is not None
            self._loop = asyncio.get_running_loop()
            await self._http.serve(sockets=[listener])

        self._thread = threading.Thread(target=lambda: asyncio.run(run()), name="hanok-router", daemon=True)
        self._thread.start()
        try:
            await_listener(self._http, self._thread)
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(self.fleet.start(), self._loop).result()
        except BaseException:
            self.stop(grace=0.0)
            raise
        return self

    def stop(self, *, grace: float | None = None) -> None:
        """Take nothing more, wait for what is running, end the workers and, last, the port."""
        seconds = self.config.grace if grace is None else grace

        async def end() -> None:
            await self.proxy.drained(seconds)
            await self.fleet.stop(seconds)

        if self._loop is not None and self.alive:
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(2 * (seconds + CLOSE) + CLOSE)
        if self._http is not None:
            self._http.should_exit = True
        if self._thread is not None:
            self._thread.join(2 * CLOSE)

    def reload(self) -> None:
        """Let every worker take the model's files up again while requests go on."""
        for worker in self.fleet.ready:
            if worker.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(signal.SIGHUP)

    def banner(self) -> str:
        """Return what to print when all is up."""
        return "\n".join(
            [
                f"hanok {__version__} serves {self.config.model_name} with {len(self.workers)} workers",
                f"  chat     {self.url}/",
                f"  API      {self.url}/v1  (OpenAI-compatible)",
                f"  metrics  {self.url}/metrics  (of all workers together)",
                "  Ctrl-C finishes what is running, then stops; a second one stops at once",
            ]
        )


def serve_many(source: str | Path, config: ServeConfig, workers: int) -> None:
    """Serve with several workers until SIGINT or SIGTERM, then finish what is running and return."""
    router = Router(source, config, workers=workers)
    asked, up = threading.Event(), False

    def hear() -> None:  # the first signal asks for an orderly end, one while loading or a second one ends at once
        if asked.is_set() or not up:
            raise KeyboardInterrupt
        asked.set()

    with on_signals(hear, reload=router.reload), router:
        up = True
        print(router.banner(), file=sys.stderr, flush=True)
        while not asked.wait(0.5):
            if not router.alive:
                raise HanokError("the listener has stopped; the log above says why")
        print("finishing what is running ...", file=sys.stderr, flush=True)


def _given(config: ServeConfig | None) -> dict[str, Any]:
    """Return a configuration's settings, without a name that was left open."""
    return {} if config is None else {name: value for name, value in config if value is not None}
