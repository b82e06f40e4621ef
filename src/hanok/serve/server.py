"""Running the application: in a thread behind a `with`, or in front until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import uvicorn

from hanok import __version__
from hanok.core.errors import HanokError, UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.worker import EngineWorker
from hanok.ops.native import prepare as prepare_kernels
from hanok.serve.app import attach, create_app
from hanok.serve.bind import is_loopback, listen, listen_unix, url_of
from hanok.serve.catalogue import Catalogue
from hanok.serve.config import ServeConfig
from hanok.serve.listener import START, await_listener, http_server, on_signals
from hanok.serve.spans import Spans

PULSE = 5.0  # seconds between two lines about a busy server
CLOSE = 5  # seconds for connections to close once nothing is running
IDLE = 15  # seconds that a connection may idle between two requests

Source = LLM | str | Path


class Server:
    """A server in threads of its own: `with Server(llm, port=0) as server: ... server.url ...`.

    Several models are served as `Server({"name": source, ...})`, the first of them to whoever names none. The port
    answers 503 from the first moment; `start` returns when every model is loaded. Leaving the block finishes what is
    running (up to `grace` seconds) and then closes.
    """

    def __init__(
        self, source: Source | Mapping[str, Source], config: ServeConfig | None = None, **settings: Any
    ) -> None:
        self.config = ServeConfig.parse({**dict(iter(config or ())), **settings})  # its `keys` are API keys
        self._sources = _named(source, self.config.model_name)
        self.model = next(iter(self._sources))
        self.app = create_app(
            list(self._sources),
            self.config,
            tell=[
                *([lambda told: _say(told.line())] if self.config.request_log else []),
                *([Spans()] if self.config.otel else []),
            ],
        )
        self.app.state.reload = self.reload
        self._reloading = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: uvicorn.Server | None = None
        self.url = ""

    @property
    def api_url(self) -> str:
        """What clients call the base URL."""
        return f"{self.url}/v1"

    @property
    def worker(self) -> EngineWorker | None:
        """The first model's engine, None until it is loaded."""
        return self.workers[0] if self.workers else None

    @property
    def workers(self) -> list[EngineWorker]:
        """The engines of the models that are loaded."""
        return [gateway.worker for gateway in self._catalogue if isinstance(gateway.worker, EngineWorker)]

    @property
    def alive(self) -> bool:
        """Whether the listener and every engine still run."""
        listens = self._thread is not None and self._thread.is_alive()
        workers = self.workers
        return listens and len(workers) == len(self._sources) and all(worker.alive for worker in workers)

    @property
    def _catalogue(self) -> Catalogue:
        catalogue: Catalogue = self.app.state.catalogue
        return catalogue

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(grace=None if kind is None else 0.0)

    def start(self) -> Self:
        """Listen, load the model, and return when requests are answered."""
        config = self.config
        listener = listen_unix(config.uds) if config.uds else listen(config.host, config.port, tries=config.ports)
        self.url = url_of(listener)
        settings: dict[str, Any] = {"timeout_keep_alive": IDLE, "timeout_graceful_shutdown": CLOSE}
        if config.ssl_certfile is not None:
            settings |= {"ssl_keyfile": str(config.ssl_keyfile), "ssl_certfile": str(config.ssl_certfile)}
            self.url = self.url.replace("http:", "https:", 1)
        self._http = http_server(self.app, log_level="warning", **settings)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._listen(listener)), name="hanok-http", daemon=True
        )
        self._thread.start()
        try:
            await_listener(self._http, self._thread)
            self._load()
        except BaseException:
            self.stop(grace=0.0)
            raise
        return self

    def stop(self, *, grace: float | None = None) -> None:
        """Admit nothing more, wait for what is running, then close the engine and, last, the port."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            seconds = self.config.grace if grace is None else grace
            with contextlib.suppress(RuntimeError):  # the loop may just have ended by itself
                asyncio.run_coroutine_threadsafe(self._catalogue.drained(seconds), self._loop).result(seconds + CLOSE)
        self._catalogue.close()  # whoever is still listening gets an error event, and no [DONE]
        if self._http is not None:
            self._http.should_exit = True
        if self._thread is not None:
            self._thread.join(CLOSE + START)

    def reload(self, name: str | None = None) -> dict[str, str]:
        """Load models (one, or all) again from where they lie and return their versions by name.

        New requests get the new model while running ones end on the old; if one cannot be loaded, none is changed.
        """
        names = list(self._sources) if name is None else [name]
        for one in names:
            if isinstance(self._sources[one], LLM):
                raise UsageError(f"{one} was given as an object, not as a directory that could be read again")
        if not self._reloading.acquire(blocking=False):
            raise HanokError("a reload is going on already")
        try:
            made = {one: self._engine(self._sources[one]) for one in names}
            return {one: attach(self._catalogue.find(one), EngineWorker(engine)) for one, engine in made.items()}
        finally:
            self._reloading.release()

    def banner(self) -> str:
        """Return what to print when the server is up: on a Unix socket, whose callers are programs, one line."""
        if self.config.uds is not None:
            return f"{self.model} is served at {self.url}"
        lines = []
        for name, worker in zip(self._sources, self.workers, strict=True):
            llm = worker.engine.llm
            size = sum(weight.numel() for weight in llm.model.parameters())
            lines.append(
                f"hanok {__version__} serves {name} ({size / 1e6:,.2f} M parameters, "
                f"context {llm.model.config.context}, {self.config.engine.numerics} numerics)"
            )
        lines += [
            f"  chat     {self.url}/",
            f"  API      OPENAI_BASE_URL={self.api_url}  ANTHROPIC_BASE_URL={self.url}",
            f"  metrics  {self.url}/metrics",
        ]
        if self.config.report is not None and not self.config.locked:
            lines.append(f"  report   {self.url}/report")
        if not is_loopback(self.config.host) and not self.config.locked:
            lines.append("  WARNING  anyone who can reach this machine can use this server: it has no API key")
        lines.append("  Ctrl-C finishes what is running, then stops; a second one stops at once")
        return "\n".join(lines)

    async def _listen(self, listener: Any) -> None:
        assert self._http is not None
        self._loop = asyncio.get_running_loop()
        await self._http.serve(sockets=[listener])

    def _load(self) -> None:
        for gateway in self._catalogue:
            attach(gateway, EngineWorker(self._engine(self._sources[gateway.model_name])))

    def _engine(self, source: Source) -> Engine:
        llm = source if isinstance(source, LLM) else LLM.load(source, weights=self.config.weights)
        prepare_kernels()
        return Engine(llm, **dict(self.config.engine))


def serve(source: Source | Mapping[str, Source], config: ServeConfig | None = None, **settings: Any) -> None:
    """Serve models until SIGINT or SIGTERM, then finish what is running and return; SIGHUP loads them again."""
    server = Server(source, config, **settings)
    asked = threading.Event()

    def hear() -> None:  # the first signal asks for an orderly end, one while loading or a second one ends at once
        if asked.is_set() or server.worker is None:
            raise KeyboardInterrupt
        asked.set()

    with on_signals(hear, reload=lambda: _reload_aside(server)), server:
        print(server.banner(), file=sys.stderr, flush=True)
        pulse = Pulse(server)
        while not asked.wait(0.5):
            if not server.alive:
                raise HanokError("the engine or the listener has stopped; the log above says why")
            pulse.beat()
        print("finishing what is running ...", file=sys.stderr, flush=True)


def _named(source: Source | Mapping[str, Source], name: str | None) -> dict[str, Source]:
    """Return the models by the names that clients call them by."""
    if isinstance(source, Mapping):
        if not source or name is not None:
            raise UsageError("several models come with their names: leave model_name out, and give one at least")
        return dict(source)
    return {name or ("hanok" if isinstance(source, LLM) else Path(source).resolve().name): source}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _reload_aside(server: Server) -> None:
    """Load the models again in a thread, so that the signal's handler returns at once, and say how it went."""

    def work() -> None:
        try:
            _say(f"reloaded: {', '.join(f'{name} {version}' for name, version in server.reload().items())}")
        except HanokError as error:
            _say(f"not reloaded, nothing was changed: {error}")

    if server.alive:
        threading.Thread(target=work, name="hanok-reload", daemon=True).start()


class Pulse:
    """Says every five seconds what a busy server is doing; an idle one is silent."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._then, self._last = time.monotonic(), self._generated()

    def beat(self) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if now - self._then < PULSE:
            return
        stats, generated = [worker.stats() for worker in self._server.workers], self._generated()
        rate = max(0, generated - self._last) / (now - self._then)  # a model that was replaced takes its count along
        running, waiting = sum(one.running for one in stats), sum(one.waiting for one in stats)
        if rate or running or waiting:
            used = 100 * sum(one.pages_used for one in stats) / max(1, sum(one.pages_total for one in stats))
            _say(f"running {running}, waiting {waiting}, {rate:.0f} tok/s, cache {used:.0f} %")
        self._then, self._last = now, generated

    def _generated(self) -> int:
        return sum(worker.stats().generated_tokens for worker in self._server.workers)
