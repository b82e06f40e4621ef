"""Running the board: in a thread behind a `with`, or in front until a signal comes."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

import uvicorn

from hanok.core.errors import HanokError, UsageError
from hanok.serve.bind import is_loopback, listen, url_of
from hanok.serve.board.app import create_board
from hanok.serve.board.watch import Watch

PORT = 7575
PORTS = 20  # how many ports from the first on are tried
START = 30.0  # seconds for the listener to come up


class BoardServer:
    """The board of some folders: `with BoardServer(["runs"], port=0) as board: ... board.url ...`.

    Folders may be empty, or not exist yet: runs appear when they begin. An address that others can reach is refused
    without `open`, because the board shows what a run wrote to everyone who asks.
    """

    def __init__(
        self,
        roots: Sequence[str | Path],
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        open: bool = False,
        watch: Watch | None = None,
    ) -> None:
        folders = [Path(root) for root in roots]
        for folder in folders:
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} is no folder: give the folder of a run, or one with runs in it")
        if not is_loopback(host) and not open:
            raise UsageError(
                f"host {host} can be reached from other machines: say --open to show the board to everyone"
            )
        self.host, self.port = host, port
        self.app = create_board(folders, watch=watch, hosts=() if is_loopback(host) else None)
        self.url = ""
        self._http: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        listener = listen(self.host, self.port, tries=PORTS)
        self.url = url_of(listener)
        config = uvicorn.Config(
            self.app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._http = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._http.run, kwargs={"sockets": [listener]}, name="hanok-board", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START
        while not self._http.started:
            if not self.alive or time.monotonic() > deadline:
                raise HanokError("the HTTP listener did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._http is not None and self._thread is not None
        self._http.should_exit = True
        self._thread.join(START)

    @property
    def alive(self) -> bool:
        """Whether the listener still runs."""
        return self._thread is not None and self._thread.is_alive()


def show(roots: Sequence[str | Path], *, host: str = "127.0.0.1", port: int = PORT, open: bool = False) -> None:
    """Serve the board until SIGINT or SIGTERM."""
    asked = threading.Event()
    server = BoardServer(roots, host=host, port=port, open=open)
    with _signals(asked), server:
        where = ", ".join(str(root) for root in roots)
        print(
            f"hanok ui shows the runs in {where}\n  board    {server.url}/\n  Ctrl-C stops", file=sys.stderr, flush=True
        )
        while not asked.wait(0.5):
            if not server.alive:
                raise HanokError("the board's listener has stopped")


@contextlib.contextmanager
def _signals(asked: threading.Event) -> Iterator[None]:
    def hear(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
