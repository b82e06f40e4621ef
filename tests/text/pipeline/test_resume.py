"""A run that is killed with SIGKILL, at any moment, goes on and leaves the very bytes of one that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanok.core.artifact import Artifact
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.data.pipeline import part as parts
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.lock import held
from hanok.text.data.pipeline.tokens import TokensConfig, tokens_stage

Clean = Callable[..., Artifact]

CODE = """
import sys
from pathlib import Path
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.data.pipeline.clean import clean_stage
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.engine import ENGINES
config = PipelineConfig.from_yaml(sys.argv[1])
run_stage(clean_stage(ENGINES["local"](int(sys.argv[3]))), config, {}, Path(sys.argv[2]), log=Log(quiet=True))
"""


def killed(run: Callable[[], object], seconds: float) -> bool:
    """Do something in a child and kill it after a while; say whether it was still at it."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def cheap(settings: PipelineConfig) -> PipelineConfig:
    """Return settings without the steps that take long, and many units."""
    return settings.model_copy(update={"minhash": None, "decontaminate": None, "unit_bytes": 4_000, "source": ""})


def test_kills_at_random_moments_change_no_byte(clean: Clean, settings: PipelineConfig, tmp_path: Path) -> None:
    config, rng, hits = cheap(settings), random.Random(3), 0
    whole = clean(config, tmp_path / "whole")
    started = time.monotonic()  # of the second run: the first one loads code
    assert clean(config, tmp_path / "again").files == whole.files
    half = (time.monotonic() - started) / 2  # so that a run on a fast machine is hit, too
    for _ in range(15):
        hits += killed(lambda: clean(config, tmp_path / "out"), rng.uniform(0.0, half))
        if any((tmp_path / "out").glob("clean-*/artifact.json")):
            break
    artifact = clean(config, tmp_path / "out")
    assert hits > 0 and artifact.files == whole.files
    assert sorted(file.name for file in artifact.path.iterdir()) == sorted(file.name for file in whole.path.iterdir())


def test_without_the_rename_a_kill_loses_documents(
    clean: Clean, settings: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control arm: a part whose folder is its own work folder, and that counts as done as soon as it is there."""
    config = cheap(settings)
    whole = clean(config, tmp_path / "whole")
    written = 0

    class Killed(BaseException):
        pass

    def dying(limit: int) -> Callable[..., None]:
        def write(file: Any, value: Any) -> None:
            nonlocal written
            written += 1
            if written == limit:
                raise Killed
            plain(file, value)

        return write

    from hanok.text.data.pipeline import scan

    plain = scan.write_line

    def attempt(root: Path) -> Artifact | None:
        nonlocal written
        written = 0
        monkeypatch.setattr(scan, "write_line", dying(150))
        with pytest.raises(Killed):
            clean(config, root)
        monkeypatch.setattr(scan, "write_line", plain)
        try:
            return clean(config, root)
        except Exception:
            return None  # found damage: no loss that nobody notices, but no resume either

    guarded = attempt(tmp_path / "guarded")
    assert guarded is not None and guarded.files == whole.files
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix, suffix, dir: _in_place(Path(dir), prefix))
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: None)
    monkeypatch.setattr(Path, "rename", _rename_unless_same)
    monkeypatch.setattr(parts, "is_done", lambda folder, unit: parts.part_path(folder, unit).is_dir())
    monkeypatch.setattr("hanok.text.data.pipeline.clean.is_done", parts.is_done)
    careless = attempt(tmp_path / "careless")
    assert careless is None or careless.files != whole.files


def _in_place(folder: Path, prefix: str) -> str:
    path = folder / prefix.strip(".")
    path.mkdir(exist_ok=True)
    return str(path)


def _rename_unless_same(self: Path, target: Path) -> Path:
    if self != target:
        os.rename(self, target)
    return target


def test_tokenising_is_killed_and_goes_on_too(clean: Clean, settings: PipelineConfig, tmp_path: Path) -> None:
    documents = clean(cheap(settings), tmp_path / "documents").path

    def prepare(root: Path) -> Artifact:
        config = TokensConfig(vocab_size=300)
        stage = tokens_stage(ENGINES["local"](1))
        return run_stage(stage, config, {"documents": documents}, root, log=Log(quiet=True))

    whole, rng, hits = prepare(tmp_path / "whole"), random.Random(5), 0
    started = time.monotonic()
    assert prepare(tmp_path / "again").files == whole.files
    half = (time.monotonic() - started) / 2
    for _ in range(12):
        hits += killed(lambda: prepare(tmp_path / "out"), rng.uniform(0.0, half))
        if any((tmp_path / "out").glob("data-*/artifact.json")):
            break
    assert prepare(tmp_path / "out").files == whole.files and hits > 0


def test_a_new_run_waits_for_the_workers_of_a_killed_one(tmp_path: Path) -> None:
    from hanok.core.errors import HanokError
    from hanok.text.data.pipeline.lock import HELD

    with held(tmp_path / "lock"):
        holder = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=tuple(HELD))
    with pytest.raises(HanokError, match="still there"), held(tmp_path / "lock", patience=0.05):
        pass
    holder.kill()
    holder.wait()
    if holder.stdin:
        holder.stdin.close()
    with held(tmp_path / "lock", patience=5.0):
        pass


@pytest.mark.slow
def test_twenty_kills_of_a_run_with_two_processes_change_no_byte(
    clean: Clean, settings: PipelineConfig, tmp_path: Path
) -> None:
    config = settings.model_copy(update={"unit_bytes": 1_000, "minhash": None})
    whole = clean(config, tmp_path / "whole")
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    command = [sys.executable, "-c", CODE, str(tmp_path / "run.yaml"), str(tmp_path / "out"), "2"]
    rng, hits, finished = random.Random(11), 0, 0
    while hits < 20:
        process = subprocess.Popen(command)
        try:
            process.wait(timeout=rng.uniform(0.5, 12.0))
            finished += 1
            artifact = clean(config, tmp_path / "out")
            assert artifact.files == whole.files
            for folder in (tmp_path / "out").glob("clean-*"):  # once more from the beginning
                folder.rename(tmp_path / f"finished-{finished}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hits += 1
    assert clean(config, tmp_path / "out").files == whole.files
    print(f"{hits} kills, {finished} runs came to their end in between")
