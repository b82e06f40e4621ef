"""A disk that is full, broken or closed at any call of a save: nothing is lost, nothing is claimed, the run goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hanok.core.artifact import ArtifactError
from hanok.train.checkpoint.folder import NotRemoved, claimed
from hanok.train.checkpoint.manifest import verify
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.schedule.linear import Linear
from hanok.train.state import checkpoints, resume, save_checkpoint

from .disk import Recorder
from .states import advance, same, small, snapshot

ERRORS = [errno.ENOSPC, *(pytest.param(code, marks=pytest.mark.slow) for code in (errno.EIO, errno.EACCES))]


def calls_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many calls that change the disk a save with retention makes."""
    state = small(1)
    save_checkpoint(state, tmp_path / "count", keep=1)
    advance(state)
    with Recorder(monkeypatch, tmp_path) as disk:
        save_checkpoint(state, tmp_path / "count", keep=1)
    return disk.calls


@pytest.mark.parametrize("code", ERRORS, ids=["ENOSPC", "EIO", "EACCES"])
def test_a_fault_at_any_call_of_a_save(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = calls_of_a_save(tmp_path, monkeypatch)
    assert count > 30
    raised = 0
    state, other = small(1), small(seed=1)
    before = snapshot(state)
    whole = save_checkpoint(state, tmp_path / "whole")
    advance(state)
    after = snapshot(state)
    for number in range(count):
        folder = tmp_path / f"{number}"
        first = folder / whole.name
        shutil.copytree(whole, first)
        with Recorder(monkeypatch, tmp_path) as disk:
            disk.fail_at, disk.error = number, code
            try:
                save_checkpoint(state, folder, keep=1)
                failed: OSError | None = None
            except OSError as error:
                failed = error
        found = resume(other, folder, lambda text: None)
        if failed is None or isinstance(failed, NotRemoved):  # what must not fail has not: the new one is there
            assert found == folder / "step-000002"
        else:
            raised += 1
            assert failed.errno == code
            assert first.exists(), "retention went on although the save failed"
            verify(first)
        assert found is not None
        assert same(snapshot(other), before if found == first else after)
        with claimed(folder):
            assert {path.name for path in folder.iterdir()} <= {"step-000001", "step-000002"}
        other.step = 3
        assert save_checkpoint(other, folder, keep=1).exists()  # the disk is well again
        assert [path.name for path in folder.iterdir()] == ["step-000003"]
        shutil.rmtree(folder)
    assert raised > 20


def test_control_a_writer_that_hides_errors_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a failed write were passed over, a save that claims success would be damaged: the test above would see it."""
    state = small(1)
    real = os.write

    def careless(descriptor: int, data: bytes) -> int:
        return len(data) if len(data) > 1000 else real(descriptor, data)

    monkeypatch.setattr(os, "write", careless)
    path = save_checkpoint(state, tmp_path)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="has changed since"):
        verify(path)


def go(folder: Path, steps: int, said: list[str], **options: float) -> Checkpoint:
    hook = Checkpoint(folder, say=said.append, **options)  # type: ignore[arg-type]
    train(small(steps=steps), NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(), [hook])
    return hook


def test_the_run_goes_on_and_says_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = tmp_path / "run", list[str]()
    with Recorder(monkeypatch, tmp_path) as disk:
        disk.fail_at, disk.only = 7, "step-000004"
        hook = go(folder, 8, said, every=2, seconds=1e9, keep=2)
    assert hook.failures == 1 == len(said)
    assert "step 4: the checkpoint could not be saved ([Errno 28] No space left on device" in said[0]
    assert "failures so far: 1" in said[0]
    assert [path.name for path in checkpoints(folder)] == ["step-000006", "step-000008"]


def test_the_last_save_must_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Recorder(monkeypatch, tmp_path) as disk, pytest.raises(OSError, match="No space left"):
        disk.fail_at = 10
        go(tmp_path / "run", 3, [], seconds=1e9)


def test_what_cannot_be_removed_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = tmp_path / "run", list[str]()
    state = small(1)
    save_checkpoint(state, folder, keep=1)
    real = os.rename

    def closed(source: Path, target: Path) -> None:
        if Path(source).name == "step-000001":
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "rename", closed)
    advance(state)
    hook = Checkpoint(folder, every=1, keep=1, say=said.append)
    hook.after_step(state, {})
    hook.stop(state)  # the step is saved: nothing is left to do
    assert "step 2: older checkpoints could not be removed ([Errno 13] Permission denied)" in said[0]
    assert [path.name for path in checkpoints(folder)] == ["step-000001", "step-000002"]
    monkeypatch.undo()
    advance(state)
    hook.after_step(state, {})
    assert [path.name for path in checkpoints(folder)] == ["step-000003"]
    assert hook.failures == 1


@pytest.fixture
def little(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB, where that is allowed."""
    path = tmp_path / "little"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_is_really_full(little: Path) -> None:
    """Two checkpoints fit, but not beside the file that fills the rest for a while."""
    said: list[str] = []
    state = small(1, vocab=1024, dim=128)  # about 3 MB with both moments
    hook = Checkpoint(little / "run", every=1, keep=1, say=said.append)
    hook.after_step(state, {})
    filler = little / "filler"
    filler.write_bytes(bytes(4 << 20))
    for _ in range(2):
        advance(state)
        hook.after_step(state, {})
    assert hook.failures == 2 == len(said)
    assert "No space left on device" in said[0]
    other = small(seed=1, vocab=1024, dim=128)
    assert resume(other, little / "run") == little / "run" / "step-000001"
    filler.unlink()
    advance(state)
    hook.after_step(state, {})
    assert resume(other, little / "run") == little / "run" / "step-000004"
    assert torch.equal(other.model.embed.weight, state.model.embed.weight)
    assert [path.name for path in (little / "run").iterdir()] == ["step-000004"]
