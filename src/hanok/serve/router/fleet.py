"""The workers' processes: started, looked after, started again when they die, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from hanok.core.device import cpu_count
from hanok.core.errors import HanokError
from hanok.serve.config import ServeConfig
from hanok.serve.fetch import Address, Broken, Unreachable, ask
from hanok.serve.router.prefix import PrefixMap

LOOK = 1.0  # seconds between two looks at a worker that is ready
PATIENCE = 5.0  # seconds for an answer to such a look
SICK = 120.0  # seconds that a worker which was ready may not be, before it is killed and started again
FIRST, LONGEST = 0.5, 30.0  # seconds before a dead worker is started again; doubled while it dies young
STEADY = 60.0  # seconds of life after which a death is not a young one
CLOSE = 10.0  # seconds beyond the grace that a worker has to end


@dataclass(eq=False)
class Worker:
    """One server process behind a Unix socket."""

    number: int
    address: Address
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    ready: bool = False
    inflight: int = 0
    restarts: int = 0

    @property
    def pid(self) -> int | None:
        """Return the number of its process, None while there is none."""
        return None if self.process is None else self.process.pid


class Fleet:
    """Keeps `count` workers of one model running; `ended` is called with each worker whose process has ended."""

    def __init__(self, source: str, config: ServeConfig, count: int) -> None:
        self.source, self.config, self.count = source, config, count
        self.prefixes = PrefixMap()
        self.workers: list[Worker] = []
        self.ended: Callable[[Worker], None] = lambda worker: None
        self.command = (sys.executable, "-m", "hanok.serve.router.worker")
        self._tasks: list[asyncio.Task[None]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._closing = False

    @property
    def ready(self) -> list[Worker]:
        """Return the workers that take requests."""
        return [worker for worker in self.workers if worker.ready]

    async def start(self) -> None:
        """Start all workers and return when each is ready; one that ends before is an error."""
        self._folder = tempfile.TemporaryDirectory(prefix="hanok-")  # only its owner may enter
        for number in range(self.count):
            if self._closing:
                return
            worker = Worker(number, Address(uds=Path(self._folder.name) / f"{number}.sock"))
            self.workers.append(worker)
            await self._launch(worker)
        for worker in self.workers:
            await self._await_ready(worker)
        if not self._closing:
            self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self.workers]

    async def stop(self, grace: float) -> None:
        """Ask every worker to end and wait; kill those that do not within `grace` seconds and a few more."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = [w.process for w in self.workers if w.process is not None and w.process.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if grace else signal.SIGKILL)
        await asyncio.gather(*(_ended(process, grace + CLOSE) for process in running))
        if self._folder is not None:
            self._folder.cleanup()

    async def _launch(self, worker: Worker) -> None:
        assert worker.address.uds is not None
        worker.address.uds.unlink(missing_ok=True)
        told = plain(self.config) | {"uds": str(worker.address.uds), "ssl_keyfile": None, "ssl_certfile": None}
        threads = max(1, cpu_count() // self.count)
        worker.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
            start_new_session=True,  # Ctrl-C in a terminal reaches the router alone, which then asks its workers
        )
        pipe = worker.process.stdin
        assert pipe is not None
        with contextlib.suppress(ConnectionError):  # it has ended at once, as `_keep` will see
            pipe.write(json.dumps({"source": self.source, "config": told}).encode() + b"\n")
            await pipe.drain()

    async def _await_ready(self, worker: Worker) -> None:
        assert worker.process is not None
        while not worker.ready and not self._closing:
            if worker.process.returncode is not None:
                raise HanokError(f"worker {worker.number} has ended with code {worker.process.returncode}; see above")
            worker.ready = await healthy(worker.address)
            await asyncio.sleep(0.05)

    async def _keep(self, worker: Worker) -> None:
        """Look after one worker for as long as the fleet runs."""
        pause = FIRST
        while not self._closing:
            born = time.monotonic()
            await self._look_after(worker)
            worker.ready = False
            self.prefixes.forget(worker.number)
            self.ended(worker)
            code = worker.process.returncode if worker.process else None
            print(f"worker {worker.number} has ended ({code}) and is started again", file=sys.stderr, flush=True)
            pause = FIRST if time.monotonic() - born > STEADY else min(LONGEST, 2 * pause)
            await asyncio.sleep(pause)
            worker.restarts += 1
            await self._launch(worker)

    async def _look_after(self, worker: Worker) -> None:
        """Return when a worker's process has ended, by itself or because it was no good any more."""
        assert worker.process is not None
        end = asyncio.create_task(worker.process.wait())
        was_ready, seen = worker.ready, time.monotonic()
        try:
            while not end.done():
                worker.ready = await healthy(worker.address) and worker.process.returncode is None
                if worker.ready:
                    was_ready, seen = True, time.monotonic()
                elif was_ready and time.monotonic() - seen > SICK:
                    with contextlib.suppress(ProcessLookupError):
                        worker.process.kill()
                await asyncio.wait([end], timeout=LOOK if worker.ready else LOOK / 5)
        finally:
            end.cancel()


async def healthy(address: Address) -> bool:
    """Say whether a worker would answer requests now."""
    try:
        async with asyncio.timeout(PATIENCE), ask(address, "GET", "/ready") as answer:
            return answer.status == 200
    except (Unreachable, Broken, TimeoutError):
        return False


def plain(value: Any) -> Any:
    """Return a configuration as JSON-able data, secrets in the clear: for a pipe, never for a file or a log."""
    if isinstance(value, pydantic.SecretStr):
        return value.get_secret_value()
    if isinstance(value, pydantic.BaseModel):
        return {name: plain(inner) for name, inner in value}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
