"""Running the application: in a thread behind a `with`, or in front until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import uvicorn

from hanok import __version__
from hanok.core.errors import HanokError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.worker import EngineWorker
from hanok.serve.app import attach, create_app
from hanok.serve.bind import is_loopback, listen, url_of
from hanok.serve.config import ServeConfig
from hanok.serve.gateway import Gateway
from hanok.serve.listener import START, await_listener, http_server, on_signals

PULSE = 5.0  # seconds between two lines about a busy server
CLOSE = 5  # seconds for connections to close once nothing is running


class Server:
    """A server in threads of its own: `with Server(llm, port=0) as server: ... server.url ...`.

    The port answers 503 from the first moment; `start` returns when the model is loaded. Leaving the block finishes
    what is running (up to `grace` seconds) and then closes.
    """

    def __init__(self, source: LLM | str | Path, config: ServeConfig | None = None, **settings: Any) -> None:
        self.config = ServeConfig.parse({**(dict(config) if config else {}), **settings})
        self._source = source
        self.model = self.config.model_name or ("hanok" if isinstance(source, LLM) else Path(source).resolve().name)
        self.app = create_app(
            None,
            model_name=self.model,
            max_queue=self.config.max_queue,
            api_key=self.config.key,
            report=self.config.report,
            metrics_compat=self.config.metrics_compat,
            allowed_hosts=self.config.hosts,
            examples=self.config.examples,
        )
        self.worker: EngineWorker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: uvicorn.Server | None = None
        self.url = ""

    @property
    def api_url(self) -> str:
        """What clients call the base URL."""
        return f"{self.url}/v1"

    @property
    def alive(self) -> bool:
        """Whether both the listener and the engine still run."""
        threads = self._thread is not None and self._thread.is_alive()
        return threads and self.worker is not None and self.worker.alive

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(grace=None if kind is None else 0.0)

    def start(self) -> Self:
        """Listen, load the model, and return when requests are answered."""
        config = self.config
        listener = listen(config.host, config.port, tries=config.ports)
        self.url = url_of(listener)
        self._http = http_server(self.app, log_level="warning", timeout_keep_alive=30, timeout_graceful_shutdown=CLOSE)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._listen(listener)), name="hanok-http", daemon=True
        )
        self._thread.start()
        try:
            await_listener(self._http, self._thread)
            attach(self.app, self._load())
        except BaseException:
            self.stop(grace=0.0)
            raise
        return self

    def stop(self, *, grace: float | None = None) -> None:
        """Admit nothing more, wait for what is running, then close the engine and, last, the port."""
        gateway: Gateway = self.app.state.gateway
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            seconds = self.config.grace if grace is None else grace
            with contextlib.suppress(RuntimeError):  # the loop may just have ended by itself
                asyncio.run_coroutine_threadsafe(gateway.drained(seconds), self._loop).result(seconds + CLOSE)
        if self.worker is not None:
            self.worker.close()  # whoever is still listening gets an error event, and no [DONE]
        if self._http is not None:
            self._http.should_exit = True
        if self._thread is not None:
            self._thread.join(CLOSE + START)

    def banner(self) -> str:
        """Return what to print when the server is up."""
        assert self.worker is not None
        llm = self.worker.engine.llm
        size = sum(weight.numel() for weight in llm.model.parameters())
        lines = [
            f"hanok {__version__} serves {self.model} ({size / 1e6:,.2f} M parameters, "
            f"context {llm.model.config.context}, {self.config.engine.numerics} numerics)",
            f"  chat     {self.url}/",
            f"  API      {self.api_url}  (OpenAI-compatible)",
            f"  metrics  {self.url}/metrics",
        ]
        if self.config.report is not None and self.config.api_key is None:
            lines.append(f"  report   {self.url}/report")
        if not is_loopback(self.config.host) and self.config.api_key is None:
            lines.append("  WARNING  anyone who can reach this machine can use this server: it has no API key")
        lines.append("  Ctrl-C finishes what is running, then stops; a second one stops at once")
        return "\n".join(lines)

    async def _listen(self, listener: Any) -> None:
        assert self._http is not None
        self._loop = asyncio.get_running_loop()
        await self._http.serve(sockets=[listener])

    def _load(self) -> EngineWorker:
        llm = self._source if isinstance(self._source, LLM) else LLM.load(self._source)
        engine = Engine(llm, **dict(self.config.engine))
        self.worker = EngineWorker(engine)
        return self.worker


def serve(source: LLM | str | Path, config: ServeConfig | None = None, **settings: Any) -> None:
    """Serve a model until SIGINT or SIGTERM, then finish what is running and return."""
    server = Server(source, config, **settings)
    asked = threading.Event()

    def hear() -> None:  # the first signal asks for an orderly end, one while loading or a second one ends at once
        if asked.is_set() or server.worker is None:
            raise KeyboardInterrupt
        asked.set()

    with on_signals(hear), server:
        print(server.banner(), file=sys.stderr, flush=True)
        pulse = Pulse(server)
        while not asked.wait(0.5):
            if not server.alive:
                raise HanokError("the engine or the listener has stopped; the log above says why")
            pulse.beat()
        print("finishing what is running ...", file=sys.stderr, flush=True)


class Pulse:
    """Says every five seconds what a busy server is doing; an idle one is silent."""

    def __init__(self, server: Server) -> None:
        assert server.worker is not None
        self._worker = server.worker
        self._then, self._last = time.monotonic(), server.worker.stats()

    def beat(self) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if now - self._then < PULSE:
            return
        stats = self._worker.stats()
        rate = (stats.generated_tokens - self._last.generated_tokens) / (now - self._then)
        if rate or stats.running or stats.waiting:
            used = 100 * stats.pages_used / max(1, stats.pages_total)
            line = f"running {stats.running}, waiting {stats.waiting}, {rate:.0f} tok/s, cache {used:.0f} %"
            print(line, file=sys.stderr, flush=True)
        self._then, self._last = now, stats
