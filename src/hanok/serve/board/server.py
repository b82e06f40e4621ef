"""Running the board: in a thread behind a `with`, or in front until a signal comes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import uvicorn

from hanok.core.errors import HanokError, UsageError
from hanok.serve.bind import is_loopback, listen, url_of
from hanok.serve.board.app import create_board
from hanok.serve.board.watch import Watch
from hanok.serve.listener import START, await_listener, http_server, on_signals

PORT = 7575
PORTS = 20  # how many ports from the first on are tried


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
        self._http = http_server(self.app, log_level="error", timeout_graceful_shutdown=1)
        self._thread = threading.Thread(
            target=self._http.run, kwargs={"sockets": [listener]}, name="hanok-board", daemon=True
        )
        self._thread.start()
        await_listener(self._http, self._thread)
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
    with on_signals(asked.set), server:
        where = ", ".join(str(root) for root in roots)
        print(
            f"hanok ui shows the runs in {where}\n  board    {server.url}/\n  Ctrl-C stops", file=sys.stderr, flush=True
        )
        while not asked.wait(0.5):
            if not server.alive:
                raise HanokError("the board's listener has stopped")
