"""Watching over the ranks of a job: one that is killed, frozen or stuck is named, and the job ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from hanok.core.errors import HanokError

EXIT_CODE = 1
WATCHED = 8  # in jobs of more ranks than that squared, each rank watches over so many of its followers
COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "all_to_all_single",
    "reduce_scatter_tensor",
    "broadcast",
    "barrier",
    "batch_isend_irecv",
    "wait_tensor",
    "recv",
    "send",
    "_wait_batch_p2p",
    "wait_for_unshard",
    "foreach_reduce",
)
BACKWARD = "_engine_run_backward"
HERE = Path(__file__)


@dataclass
class Beat:
    """What a rank last said of itself, and when that reached us (monotonic seconds)."""

    count: int = -1
    pid: int = 0
    host: str = ""
    where: str = ""
    step: int = 0
    seen: float = 0.0


@contextmanager
def watch(seconds: float, step: Callable[[], int]) -> Iterator[None]:
    """Watch over all ranks inside the `with` block, which each of them enters; 0 seconds: do not.

    Every rank says each second that it is alive. One that was silent for `seconds`, or whose process is gone, is named
    with what it was doing and what the others wait for; it is killed if it runs on this machine, and this process ends
    with code 1: a collective that lacks a rank would wait for ever.
    """
    if seconds <= 0 or dist.get_world_size() == 1:
        yield
        return
    guard = Watchdog(seconds, step)
    guard.start()
    try:
        yield
    except BaseException as error:
        lost = guard.blame() if _is_broken(error) else ""
        guard.stop("broken" if lost or _is_broken(error) else f"{type(error).__name__}: {error}"[:500])
        if lost:
            here = f"rank {guard.rank} waited in {_raised_in(error)}, step {step() + 1}"
            raise HanokError(f"{lost} {here}; the job ends") from error
        raise
    guard.stop("done")


class Watchdog:
    """A thread that tells the store what this rank does, and reads there what the others do."""

    def __init__(self, seconds: float, step: Callable[[], int]) -> None:
        self.seconds, self.step = seconds, step
        self.rank, size = dist.get_rank(), dist.get_world_size()
        every = [(self.rank + ahead) % size for ahead in range(1, size)]
        self.others = every if size <= WATCHED**2 else every[:WATCHED]
        self.beats = {rank: Beat() for rank in self.others}
        self._count, self._quiet = 0, time.monotonic()
        self._main, self._host = threading.main_thread().ident, socket.gethostname()
        store: Any = dist.distributed_c10d._get_default_store()
        self._store = store.clone()  # a connection of its own: the other one may be waiting
        self._store.set_timeout(timedelta(seconds=min(5.0, seconds)))
        self._stopped = threading.Event()
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin; every rank calls this."""
        self._store.set(f"watchdog/left/{self.rank}", "")
        self._say()
        dist.barrier()
        now = time.monotonic()
        for beat in self.beats.values():
            beat.seen = now
        self._thread.start()

    def stop(self, why: str) -> None:
        """End, and tell the others why this rank says nothing any more."""
        self._stopped.set()
        self._thread.join()
        with contextlib.suppress(dist.DistError, RuntimeError):
            self._store.set(f"watchdog/left/{self.rank}", why)

    def blame(self) -> str:
        """Return which rank a broken collective is the fault of, as far as that can be found out in time."""
        deadline = time.monotonic() + self.seconds + 2
        while time.monotonic() < deadline:
            try:
                if self._store.check(["watchdog/said"]):
                    return str(self._store.get("watchdog/said").decode())
                self._read()
                for rank in self.others:
                    if lost := self._lost(rank):
                        return lost
            except (dist.DistError, RuntimeError):
                return "another rank has ended the job and said why;"
            time.sleep(0.1)
        return ""

    def _run(self) -> None:
        pause = min(1.0, self.seconds / 5)
        while not self._stopped.wait(pause):
            try:
                self._say()
                self._read()
                self._quiet = time.monotonic()
            except (dist.DistError, RuntimeError):
                if time.monotonic() - self._quiet > self.seconds:
                    self._end("the store of the job (rank 0's machine, or its launcher) does not answer;")
                continue
            for rank in self.others:
                if (lost := self._lost(rank)) and not self._stopped.wait(1.0):  # it may have ended as it should
                    self._read()
                    if lost := self._lost(rank):
                        self._end(lost, rank)

    def _say(self) -> None:
        self._count += 1
        where = doing(self._main)
        told = [self._count, os.getpid(), self._host, where, self.step()]
        self._store.set(f"watchdog/beat/{self.rank}", json.dumps(told))

    def _read(self) -> None:
        with self._reading:
            for rank, beat in self.beats.items():
                count, pid, host, where, step = json.loads(self._store.get(f"watchdog/beat/{rank}"))
                if count != beat.count:
                    self.beats[rank] = Beat(count, pid, host, where, step, time.monotonic())

    def _lost(self, rank: int) -> str:
        """Return what is to be said of a rank that is lost, or nothing."""
        beat = self.beats[rank]
        left = self._store.get(f"watchdog/left/{rank}").decode()
        if left == "done" or beat.count < 0:
            return ""
        name = f"rank {rank} (pid {beat.pid} on {beat.host})"
        was = f"it was last seen in {beat.where}, step {beat.step + 1};"
        if left not in ("", "broken"):
            return f"{name} ended with {left};"
        state = _process_state(beat.pid) if beat.host == self._host else "?"
        if state in ("gone", "Z"):
            return "" if left else f"{name} was killed; {was}"
        silent = time.monotonic() - beat.seen
        if left or silent < self.seconds:
            return ""
        kinds = {"T": "is frozen (stopped by a signal)", "t": "is held by a debugger", "?": "is lost"}
        how = kinds.get(state, "is stuck: its interpreter runs nothing else")
        return f"{name} {how} and has been silent for {silent:.0f} s; {was}"

    def _end(self, lost: str, rank: int | None = None) -> None:
        """Say it once, kill the lost process if it is here, and leave."""
        first = True
        with contextlib.suppress(dist.DistError, RuntimeError):
            self._store.set(f"watchdog/left/{self.rank}", "broken")
            self._store.set("watchdog/said", lost)
            first = self._store.add("watchdog/verdict", 1) == 1
        here = f"rank {self.rank} waits in {doing(self._main)}, step {self.step() + 1}"
        said = f"error: {lost} {here}; the job ends\n" if first else f"rank {self.rank} ends with the job: {here}\n"
        os.write(sys.stderr.fileno(), said.encode())
        if rank is not None and self.beats[rank].host == self._host:
            with contextlib.suppress(OSError):
                os.kill(self.beats[rank].pid, signal.SIGKILL)
        time.sleep(1.0)  # the store may live in this process: let the others read what is said
        os._exit(EXIT_CODE)


def doing(thread: int | None) -> str:
    """Return what a thread is in: the collective that it waits for, and the place in our own code."""
    return _told(sys._current_frames().get(thread or 0))


def _raised_in(error: BaseException) -> str:
    """Return the same of the place where an error came up."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return _told(None if trace is None else trace.tb_frame)


def _told(frame: Any) -> str:
    collective, place = "", ""
    while frame is not None and not place:
        code = frame.f_code
        path = Path(code.co_filename)
        if not collective and "torch" in path.parts and code.co_name in (*COLLECTIVES, BACKWARD):
            collective = code.co_name.strip("_")
        if "hanok" in path.parts and path != HERE:
            place = f"{code.co_name} ({path.name}:{frame.f_lineno})"
        frame = frame.f_back
    known = {BACKWARD.strip("_"): "the backward pass, which reduces gradients (all_reduce)"}
    what = known.get(collective, collective)
    return f"{what} of {place}" if what and place else what or place or "the interpreter"


def _is_broken(error: BaseException) -> bool:
    """Return whether an error comes from a collective rather than from this rank's own work."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection", "store"))
    )


def _process_state(pid: int) -> str:
    """Return the state letter of a process on this machine (T stopped, Z ended, ...), `gone`, or ? if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone" if Path("/proc/self").exists() else "?"
    except (OSError, IndexError):
        return "?"
