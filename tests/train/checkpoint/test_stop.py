"""Pre-emption: SIGTERM saves and ends within a step, more of them do no harm, SIGKILL loses nothing that was told."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from hanok.core.errors import Interrupted
from hanok.train.checkpoint.folder import claimed
from hanok.train.checkpoint.manifest import verify
from hanok.train.hook import Hook, Record
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState, checkpoints, resume

from .states import small


class Tell(Hook):
    """Writes each step, and each save that has returned, to a pipe."""

    def __init__(self, pipe: int, checkpoint: Checkpoint) -> None:
        self.pipe, self.checkpoint = pipe, checkpoint

    def after_step(self, state: TrainState, record: Record) -> None:
        os.write(self.pipe, f"step {state.step}\nsaved {self.checkpoint._saved}\n".encode())

    def stop(self, state: TrainState) -> None:
        os.write(self.pipe, f"saved {self.checkpoint._saved}\n".encode())


def child(folder: Path, pipe: int) -> None:
    state = small(steps=100_000)
    with claimed(folder) as claim:
        resume(state, folder, lambda text: None)
        hook = Checkpoint(folder, every=7, seconds=1e9, claim=claim)
        hooks = [hook, Tell(pipe, hook)]
        train(state, NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(), hooks)


def life(folder: Path, send: list[tuple[float, int]]) -> tuple[int, int, int]:
    """Run a child, send it signals after delays; return its exit code, its last step and its last save."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(folder, writer)
        except Interrupted as error:
            status = error.exit_code
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        first = lines.readline()
        for delay, number in send:
            time.sleep(delay)
            os.kill(pid, number)
        text = (first + lines.read()).decode().splitlines()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = [(word, int(number)) for word, number in (line.split() for line in text)]
    return code, *(max(number for word, number in told if word == kind) for kind in ("step", "saved"))  # type: ignore[return-value]


@pytest.mark.parametrize("tries", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_sigterm_saves_where_the_run_stands(tries: int, tmp_path: Path) -> None:
    """One signal, and others while the last save is going on, as schedulers send them."""
    rng, before = random.Random(tries), 0
    for number in range(tries):
        send = [(rng.uniform(0.0, 0.1), signal.SIGTERM), *[(rng.uniform(0.0, 0.003), signal.SIGTERM)] * (number % 3)]
        code, step, saved = life(tmp_path / "run", send)
        newest = checkpoints(tmp_path / "run")[-1]
        # A repeated signal may find the handler gone and end a process that has saved already.
        assert code in ((130,) if number % 3 == 0 else (130, -signal.SIGTERM))
        assert newest.name == f"step-{step:06d}"
        verify(newest)
        assert step >= saved
        assert step > before
        before = step


@pytest.mark.parametrize("tries", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_sigkill_in_the_grace_period_loses_nothing_acknowledged(tries: int, tmp_path: Path) -> None:
    rng = random.Random(tries)
    for _ in range(tries):
        send = [(rng.uniform(0.0, 0.1), signal.SIGTERM), (rng.uniform(0.0, 0.01), signal.SIGKILL)]
        code, step, saved = life(tmp_path / "run", send)
        assert code in (130, -signal.SIGKILL)
        found = checkpoints(tmp_path / "run")
        newest = int(found[-1].name.removeprefix("step-")) if found else 0
        assert newest >= saved
        assert step - newest <= 7, "more is lost than the interval between saves"
        for path in found:
            verify(path)


def test_a_step_takes_no_second_signal_but_a_person_may_insist(tmp_path: Path) -> None:
    class Twice(Hook):
        def __init__(self, number: int) -> None:
            self.number = number

        def after_step(self, state: TrainState, record: Record) -> None:
            os.kill(os.getpid(), self.number)
            os.kill(os.getpid(), self.number)

    def go(number: int) -> None:
        hooks = [Twice(number), Checkpoint(tmp_path / str(number))]
        train(small(steps=5), NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(), hooks)

    with pytest.raises(Interrupted):
        go(signal.SIGTERM)
    assert [path.name for path in checkpoints(tmp_path / str(int(signal.SIGTERM)))] == ["step-000001"]
    with pytest.raises(KeyboardInterrupt):
        go(signal.SIGINT)
