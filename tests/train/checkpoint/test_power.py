"""Power cuts: every state that the log of real saves allows loads the newest acknowledged checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hanok.core import durable
from hanok.core.artifact import Artifact, ArtifactError
from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage, run_stage
from hanok.train.checkpoint.load import newest
from hanok.train.checkpoint.manifest import verify
from hanok.train.state import checkpoints, save_checkpoint

from .disk import Op, Recorder, Tree, key, read_in, states, write_out
from .states import advance, small


@pytest.fixture
def saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Op], Path]:
    """Return the log of five saves into a new folder: retention sets in, and the last replaces a checkpoint."""
    root = tmp_path / "root"
    root.mkdir()
    state = small(1)
    with Recorder(monkeypatch, root) as disk:
        for _ in range(5):
            save_checkpoint(state, root / "run" / "checkpoints", keep=1)
            disk.note("ack", state.step)
            if state.step < 4:
                advance(state)
    return disk.log, root


class Judge:
    """Says of a tree what is wrong with it; equal trees are judged once."""

    def __init__(self, work: Path) -> None:
        self.work, self.known = work, dict[Any, tuple[int, str]]()

    def __call__(self, acknowledged: int, tree: Tree) -> str:
        text = key(tree)
        if text not in self.known:
            self.known[text] = self.look(tree)
        step, wrong = self.known[text]
        return wrong or (f"step {acknowledged} was acknowledged, {step} is there" if step < acknowledged else "")

    def look(self, tree: Tree) -> tuple[int, str]:
        shutil.rmtree(self.work, ignore_errors=True)
        write_out(tree, self.work)
        folder = self.work / "run" / "checkpoints"
        for path in checkpoints(folder):
            try:
                verify(path)
            except ArtifactError as error:
                return 0, f"visible but damaged: {error}"
        with ExitStack() as held:
            sound = newest(folder, held, lambda text: None)
            return (0 if sound is None else sound.state["step"]), ""


def wrongs(
    log: list[Op], root: Path, judge: Callable[[int, Tree], str], *, first: bool = False
) -> tuple[int, list[str]]:
    """Return how many states there are, and what is wrong with them."""
    count, found = 0, []
    for acknowledged, tree in states(log, root):
        count += 1
        if wrong := judge(acknowledged, tree):
            found.append(wrong)
            if first:
                break
    return count, found


def test_the_log_is_complete(saves: tuple[list[Op], Path]) -> None:
    """Replayed, the log gives what is really on the disk, so that nothing was written behind its back."""
    from .disk import Disk

    log, root = saves
    disk = Disk(root)
    for op in log:
        if op[0] != "ack":
            disk.do(op)
    disk.do(("fsync", root))

    def now(node: Any) -> Any:
        return node.data if hasattr(node, "data") else {name: now(part) for name, part in node.now.items()}

    assert now(disk.top) == read_in(root)


def test_every_power_cut_leaves_the_newest_acknowledged_checkpoint(
    saves: tuple[list[Op], Path], tmp_path: Path
) -> None:
    log, root = saves
    count, found = wrongs(log, root, Judge(tmp_path / "work"))
    assert found == []
    assert count > len(log)  # moments with more than one possible outcome are among them


def test_without_any_one_flush_a_power_cut_can_be_fatal(saves: tuple[list[Op], Path], tmp_path: Path) -> None:
    """The control: each flush is taken out in turn, and the test above must then see damage or loss."""
    log, root = saves
    judge = Judge(tmp_path / "work")
    flushes = [place for place, op in enumerate(log) if op[0] == "fsync"]
    blind = []
    for place in flushes:
        _, found = wrongs(log[:place] + log[place + 1 :], root, judge, first=True)
        if not found:
            blind.append(log[place])
    assert blind == []
    assert len(flushes) > 40


def test_the_control_where_two_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two renames instead of one exchange leave a moment in which the replaced checkpoint has no name."""
    root = tmp_path / "root"
    root.mkdir()
    state = small(1)
    with Recorder(monkeypatch, root) as disk:
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
        for _ in range(2):
            save_checkpoint(state, root / "run" / "checkpoints")
            disk.note("ack", state.step)
    _, found = wrongs(disk.log, root, Judge(tmp_path / "work"))
    assert set(found) == {"step 1 was acknowledged, 0 is there"}


class Nothing(Config):
    """No settings."""


def test_a_stage_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for an artifact with nested folders."""
    root = tmp_path / "root"
    root.mkdir()

    def run(config: Any, inputs: Any, out: Path, log: Log) -> dict[str, Any]:
        os.mkdir(out / "a")
        os.mkdir(out / "a" / "b")
        for name in ("x", "a/b/z"):
            descriptor = os.open(out / name, os.O_CREAT | os.O_WRONLY, 0o644)
            os.write(descriptor, name.encode() * 3)
            os.close(descriptor)
        return {}

    with Recorder(monkeypatch, root) as disk:
        made = run_stage(Stage("s", "thing", Nothing, run), Nothing(), {}, root / "runs", log=Log(quiet=True))
        disk.note("ack", 1)
    log = [op for op in disk.log if ".lock" not in str(op[1])]

    def judge(acknowledged: int, tree: Tree) -> str:
        whole = tree.get("runs", {}).get(made.path.name)
        if whole is None:
            return "lost" if acknowledged else ""
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        write_out(whole, tmp_path / "work")
        try:
            Artifact.load(tmp_path / "work")
        except ArtifactError as error:
            return str(error)
        return ""

    assert wrongs(log, root, judge)[1] == []
    flushed = {str(op[1]) for op in log if op[0] == "fsync" and "config.yaml" not in str(op[1])}
    assert len(flushed) >= 6
    for name in flushed:  # some are flushed twice: with the manifest, and before the rename
        mutant = [op for op in log if op[0] != "fsync" or str(op[1]) != name]
        assert wrongs(mutant, root, judge, first=True)[1], f"{name} may as well not be flushed"
