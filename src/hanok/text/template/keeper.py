"""Keeps child processes that render templates: started when first needed, kept warm, replaced when one is ended."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

import hanok
from hanok.core.errors import HanokError, UsageError
from hanok.text.template import wire
from hanok.text.template.child import answer
from hanok.text.template.limits import Limits

START = 60.0  # seconds for a child to come up on a machine that is busy with other things
MOST = 4  # children at once, if there are that many processors: one that is being stopped holds up nobody else
CHILD = "import sys; sys.path += {paths!r}; from hanok.text.template.child import main; main()"
PASSED = ("SYSTEMROOT", "TZ", "LANG", "LC_ALL", "LC_TIME")  # of the environment; no token or key is among them

logger = logging.getLogger(__name__)


class Child:
    """One process that renders; not thread-safe."""

    def __init__(self, limits: Limits) -> None:
        homes = [Path(str(module.__file__)).resolve().parent.parent for module in (hanok, jinja2, markupsafe)]
        code = CHILD.format(paths=list(dict.fromkeys(map(str, homes))))
        self._limits = limits
        self._process = subprocess.Popen(
            # -I and -S: neither the environment nor the folder we are in, nor any *.pth, decides what is imported.
            [sys.executable, "-I", "-S", "-c", code, json.dumps(dataclasses.asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=2**20,  # where the system knows larger pipes, a long conversation goes through in one piece
            bufsize=0,  # or closing a broken pipe would fail for what could not be sent
            env={name: os.environ[name] for name in PASSED if name in os.environ},
        )
        self.used = self.late = False
        try:
            self.held: list[str] = self._read(START)["held"]
        except (EOFError, OSError, TimeoutError):
            self.end()
            raise HanokError("the process that renders chat templates cannot be started") from None

    def ask(self, packed: bytes) -> dict[str, Any] | None:
        """Return the reply to a packed request, or None if the process has ended or was ended."""
        limits = self._limits
        timed = limits.cpu is None or "cpu" in self.held
        try:
            self.used = True
            assert self._process.stdin is not None
            left = memoryview(packed)
            while left:
                left = left[self._process.stdin.write(left) :]
            return self._read(limits.wall if timed else min(limits.wall, (limits.cpu or 0) + 1.0))
        except TimeoutError:
            self.late = True
            return None
        except (EOFError, OSError):
            return None

    def end(self) -> int:
        """End the process and return its exit code as it was, or as this made it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return self._process.wait()

    def _read(self, seconds: float) -> dict[str, Any]:
        if os.name == "nt":  # where nobody can wait for a pipe with a clock, the clock ends the process
            clock = threading.Timer(seconds, self._process.kill)
            clock.start()
            try:
                return wire.read(lambda count: self._receive(count, None))[0]
            finally:
                clock.cancel()
        deadline = time.monotonic() + seconds
        return wire.read(lambda count: self._receive(count, deadline))[0]

    def _receive(self, count: int, deadline: float | None) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        data = bytearray()
        while len(data) < count:
            if deadline is not None:
                poll = select.poll()
                poll.register(pipe, select.POLLIN)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise TimeoutError
            piece = os.read(pipe, min(count - len(data), 2**20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


class Keeper:
    """Renders templates in children, several threads at a time."""

    def __init__(self, limits: Limits = Limits(), *, most: int | None = None) -> None:  # noqa: B008, it is frozen
        self.limits = limits
        self._most = most or min(MOST, os.cpu_count() or 1)
        self._inherited: list[Child] = []
        self._forget()

    @property
    def warm(self) -> int:
        """How many children wait for work."""
        return len(self._idle)

    def render(self, source: str, renderings: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the text of each rendering of a template; `UsageError` with the reason where there is none.

        With no rendering the template is only compiled.
        """
        try:
            packed = wire.pack({"source": source, "renderings": list(renderings)})
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"a chat template takes messages of plain JSON values: {error}") from None
        if self._pid != os.getpid():  # this process was forked from the one that has the children
            self._inherited += self._idle
            self._forget()
        with self._places:
            reply = self._ask(packed)
        if "error" in reply:
            raise UsageError(reply["error"])
        texts: list[str] = reply["texts"]
        return texts

    def close(self) -> None:
        """End the children that wait."""
        while self._idle and self._pid == os.getpid():
            self._idle.pop().end()

    def _ask(self, packed: bytes) -> dict[str, Any]:
        if not sys.executable or sys.platform in ("emscripten", "wasi"):
            _say("this system has no child processes: chat templates have no bounds on time and memory here")
            text = packed[wire.HEAD :].decode("utf-8", "surrogatepass")
            return answer(json.loads(text), text, dataclasses.replace(self.limits, cpu=None, memory=None))
        while True:
            child = self._take()
            reused = child.used
            try:
                reply = child.ask(packed)
            except BaseException:
                child.end()
                raise
            if reply is not None and "spent" not in reply:
                self._idle.append(child)
                return reply
            code = child.end()
            if reply is not None:
                return reply
            if not reused or _out_of_time(code) or child.late:
                return {"error": f"the chat template was stopped: {self._why(code)}"}
            # Else a child that had waited was gone: somebody else ended it, and a fresh one tells.

    def _take(self) -> Child:
        try:
            return self._idle.pop()
        except IndexError:
            child = Child(self.limits)
        missing = {"cpu", "memory"} - set(child.held)
        if missing:
            what = " and ".join(sorted(missing))
            _say(f"this system sets no bound on {what} of a process: chat templates are stopped by the clock alone")
        return child

    def _why(self, code: int) -> str:
        if _out_of_time(code):
            return f"it takes more than {self.limits.cpu:g} s of computing"
        return f"its process ended, or took more than {self.limits.wall:g} s"

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Child] = []
        self._places = threading.BoundedSemaphore(self._most)


@functools.cache
def keeper() -> Keeper:
    """Return the one keeper of this process."""
    made = Keeper()
    atexit.register(made.close)
    return made


@functools.cache
def _say(text: str) -> None:
    """Log a warning once."""
    logger.warning(text)


def _out_of_time(code: int) -> bool:
    """Say whether a process ended because its processor time was over."""
    return sys.platform != "win32" and code == -signal.SIGPROF
