"""Two jobs on one folder, and readers beside the job that writes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hanok.core.claim import Claim
from hanok.core.errors import HanokError
from hanok.train.checkpoint.folder import claimed, reading
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.state import checkpoints, load_weights, save_checkpoint

from .states import advance, small


def forked(work: Callable[[], None]) -> int:
    """Do something in a child process; it exits with 0, with 3 if it was refused, with 1 if it failed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except HanokError:
            status = 3
        finally:
            os._exit(status)
    return pid


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_second_job_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    with claimed(folder):
        (folder).mkdir()
        (folder / ".step-000001.x.tmp").mkdir()  # a save that is going on
        with pytest.raises(HanokError, match=f"written by another process .pid {os.getpid()} on .* since 20"):
            Claim(folder).take()
        assert status(forked(lambda: claimed(folder).__enter__() and None)) == 3
        assert (folder / ".step-000001.x.tmp").exists(), "a job that was refused has swept up another's save"
    with claimed(folder):
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_a_killed_job_leaves_no_lock(tmp_path: Path) -> None:
    def hold() -> None:
        Claim(tmp_path / "x").take()
        (tmp_path / "ready").touch()
        time.sleep(60)

    pid = forked(hold)
    while not (tmp_path / "ready").exists():
        time.sleep(0.005)
    with pytest.raises(HanokError):
        Claim(tmp_path / "x").take()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with Claim(tmp_path / "x"):
        assert (tmp_path / ".x.lock").exists()
    assert not (tmp_path / ".x.lock").exists()


def races(tmp_path: Path, tries: int) -> int:
    """Let two processes claim, note who is in, and leave, again and again; return how often both were in."""
    inside = tmp_path / "inside"

    def contend() -> None:
        for _ in range(tries):
            try:
                with Claim(tmp_path / "x"):
                    try:
                        inside.mkdir()
                    except FileExistsError:
                        (tmp_path / f"both-{os.getpid()}").touch()
                    time.sleep(0.0005)
                    shutil.rmtree(inside, ignore_errors=True)
            except HanokError:
                time.sleep(0.0001)

    assert [status(pid) for pid in [forked(contend), forked(contend), forked(contend)]] == [0, 0, 0]
    return len(list(tmp_path.glob("both-*")))


def test_races_for_one_folder(tmp_path: Path) -> None:
    assert races(tmp_path, 100) == 0


@pytest.mark.parametrize("guarded", [True, False])
def test_a_lock_on_a_file_that_was_removed_locks_nothing(
    guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A opens the file, B leaves and removes it, C takes a new one: A must not get in through the old one.

    The control leaves the comparison out, and then both are in.
    """
    b, c, a = Claim(tmp_path / "x").take(), Claim(tmp_path / "x"), Claim(tmp_path / "x")
    real = a._lock

    def late(descriptor: int) -> None:
        if b._descriptor is not None:
            b.release()
            c.take()
        real(descriptor)

    a._lock = late  # type: ignore[method-assign]
    if guarded:
        with pytest.raises(HanokError, match="another process"):
            a.take()
    else:
        a._is_current = lambda descriptor: True  # type: ignore[method-assign]
        a.take()
        assert c._descriptor is not None
    a.release()
    c.release()


def test_without_locks_the_earlier_job_notices_the_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems know no locks: the id in the file still tells."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    folder = tmp_path / "run"
    state = small(1)
    with Claim(folder) as first:
        hook = Checkpoint(folder, every=1, claim=first)
        hook.after_step(state, {})
        with Claim(folder) as second:
            advance(state)
            with pytest.raises(
                HanokError, match=f"taken over by pid {os.getpid()} on .*; this job writes nothing more"
            ):
                hook.after_step(state, {})
            with pytest.raises(HanokError, match="taken over"):
                hook.stop(state)
            second.check()
    assert [path.name for path in checkpoints(folder)] == ["step-000001"]


def test_a_claim_whose_file_was_cleaned_away_goes_on(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "x").take()
    claim.file.unlink()
    claim.check()
    assert json.dumps(claim.run)
    claim.release()
    claim.release()


def test_what_is_being_read_is_not_removed(tmp_path: Path) -> None:
    state = small(1)
    first = save_checkpoint(state, tmp_path, keep=1)

    def read() -> None:
        with reading(first):
            (tmp_path / ".ready").touch()
            while not (tmp_path / ".done").exists():
                time.sleep(0.002)

    pid = forked(read)
    while not (tmp_path / ".ready").exists():
        time.sleep(0.002)
    for _ in range(2):
        advance(state)
        save_checkpoint(state, tmp_path, keep=1)
        assert [path.name for path in checkpoints(tmp_path)] == ["step-000001", f"step-00000{state.step}"]
    (tmp_path / ".done").touch()
    assert status(pid) == 0
    advance(state)
    save_checkpoint(state, tmp_path, keep=1)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000004"]


def lost_reads(tmp_path: Path, tries: int) -> int:
    """Read the newest checkpoint of a run that saves all the time and keeps one; return how many reads failed."""
    folder = tmp_path / "run"
    state = small(1)
    save_checkpoint(state, folder, keep=1)

    def write() -> None:
        while not (tmp_path / "done").exists():
            advance(state)
            save_checkpoint(state, folder, keep=1)

    pid = forked(write)
    failed, model = 0, small(seed=1).model
    for _ in range(tries):
        try:
            load_weights(model, folder, lambda text: None)
        except (HanokError, OSError):
            failed += 1
    until = time.monotonic() + 60  # on a busy machine the reads may all come before a second save
    while checkpoints(folder)[-1].name <= "step-000002" and time.monotonic() < until:
        time.sleep(0.01)
    (tmp_path / "done").touch()
    assert status(pid) == 0
    assert checkpoints(folder)[-1].name > "step-000002"  # the run did go on meanwhile
    return failed


@pytest.mark.parametrize("tries", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_readers_beside_a_run_never_fail(tries: int, tmp_path: Path) -> None:
    assert lost_reads(tmp_path, tries) == 0


def test_control_without_the_readers_lock_reads_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from hanok.train.checkpoint import load

    def slow(path: Path) -> load.Sound:
        sound = inspect(path)
        time.sleep(0.05)
        return sound

    inspect = load._inspect
    monkeypatch.setattr(load, "_inspect", slow)  # the run saves meanwhile, which would remove what is being read
    assert lost_reads(tmp_path / "a", 6) == 0
    monkeypatch.setattr(load, "reading", lambda path: nullcontext())
    assert lost_reads(tmp_path / "b", 12) > 0
