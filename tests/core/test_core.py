"""Registry, configs, artifacts, stages and random streams: what everything else is filed with."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import pytest
import torch

from hanok.core.artifact import MANIFEST, Artifact, ArtifactError, atomic_directory, atomic_write, write_manifest
from hanok.core.config import Config
from hanok.core.errors import HanokError, MissingExtraError, UsageError, require
from hanok.core.log import Log, read_metrics
from hanok.core.registry import Registry
from hanok.core.rng import Streams
from hanok.core.stage import Stage, only_one, run_stage
from hanok.nn.mixer import MIXERS


class Optim(Config):
    lr: float = 1e-3
    warmup: int = 10


class Run(Config):
    steps: int = pydantic.Field(default=5, gt=0)
    optim: Optim = Optim()
    mode: Literal["a", "b"] = "a"


def test_registry_returns_the_object_refuses_duplicates_and_suggests() -> None:
    registry: Registry[Any] = Registry("thing", "hanok.nn.norm")

    @registry.register("spam", paper="a paper")
    def spam() -> None:
        """Spam a lot.

        More words.
        """

    assert spam is not None and registry["spam"] is spam
    with pytest.raises(ValueError, match="already registered"):
        registry.register("spam")(spam)
    with pytest.raises(UsageError, match="did you mean 'spam'"):
        registry["spma"]
    assert [(e.name, e.summary, e.paper) for e in registry.describe()] == [("spam", "Spam a lot.", "a paper")]


def test_folder_is_the_list() -> None:
    assert {"gqa", "rglru"} <= set(MIXERS) and "gqa" in MIXERS and "nothing" not in MIXERS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stesp": 3}, "unknown key 'stesp'; did you mean 'steps'"),
        ({"optim": {"lr": 1, "warmpu": 2}}, "unknown key 'optim.warmpu'; did you mean 'warmup'"),
        ({"steps": 0}, "steps: .*greater than 0.*got 0"),
        ({"steps": "many"}, "steps: .*integer.*got 'many'"),
        ({"mode": "c"}, "mode: .*'a' or 'b'"),
        ({"optim": {"lr": float("nan")}}, "optim.lr"),
    ],
)
def test_wrong_config_says_what_where_and_what_would_be_right(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Run.parse(data)


def test_config_round_trip_overrides_and_digest(tmp_path: Path) -> None:
    config = Run.from_yaml(None, "optim.lr=0.5", "steps=7")
    assert config.optim.lr == 0.5 and config.steps == 7
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert Run.from_yaml(tmp_path / "c.yaml") == config
    assert Run.from_yaml(tmp_path / "c.yaml").digest() == config.digest() != Run().digest()
    for bad in ("steps", "=3", "steps.x=1"):
        with pytest.raises(UsageError):
            Run.from_yaml(tmp_path / "c.yaml", bad)
    with pytest.raises(UsageError, match="cannot read"):
        Run.from_yaml(tmp_path / "absent.yaml")


def test_every_flipped_bit_missing_and_stray_manifest_is_refused(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "a") as work:
        (work / "sub").mkdir()
        (work / "sub" / "data.bin").write_bytes(bytes(range(64)))
        write_manifest(work, kind="k", name="n", config={}, inputs={}, metrics={"x": 1})
    artifact = Artifact.load(tmp_path / "a")
    assert artifact.metrics == {"x": 1} and list(artifact.files) == ["sub/data.bin"]
    file, rng = tmp_path / "a" / "sub" / "data.bin", random.Random(0)
    for _ in range(50):
        good = bytearray(range(64))
        bit = rng.randrange(512)
        good[bit // 8] ^= 1 << bit % 8
        file.write_bytes(good)
        with pytest.raises(ArtifactError, match=r"data\.bin has changed"):
            Artifact.load(tmp_path / "a")
    Artifact.load(tmp_path / "a", verify=False)  # the control: without the check nobody would notice
    file.unlink()
    with pytest.raises(ArtifactError, match=r"data\.bin is missing"):
        Artifact.load(tmp_path / "a")
    with pytest.raises(ArtifactError, match="never finished"):
        Artifact.load(tmp_path)
    (tmp_path / "a" / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        Artifact.load(tmp_path / "a")


def _write_forever(path: Path, whole: bool) -> None:
    for number in range(10**9):
        data = str(number % 10).encode() * 300_000
        if whole:
            atomic_write(path, data)
        else:
            path.write_bytes(data)


@pytest.mark.parametrize(
    ("whole", "kills"),
    [
        pytest.param(True, 15, id="atomic"),
        pytest.param(True, 40, id="atomic, often", marks=pytest.mark.slow),
        pytest.param(False, 400, id="control: in place"),
    ],
)
def test_killed_while_writing(tmp_path: Path, whole: bool, kills: int) -> None:
    """A file written atomically is never half there, a file written in place soon is."""
    torn, path, rng = 0, tmp_path / "file", random.Random(1)
    atomic_write(path, b"0" * 300_000)
    fork = multiprocessing.get_context("fork")
    for _ in range(kills):
        child = fork.Process(target=_write_forever, args=(path, whole))
        child.start()
        time.sleep(rng.uniform(0.002, 0.02))
        assert child.pid
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        data = path.read_bytes()
        torn += len(data) != 300_000 or len(set(data)) != 1
        if torn and not whole:
            break
    assert (torn == 0) == whole


def _stage(calls: list[str]) -> Stage:
    def run(config: Run, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
        calls.append("run")
        (out / "result.txt").write_text(str(config.steps))
        log.metrics(1, loss=0.5)
        if config.steps == 13:
            raise HanokError("unlucky")
        return {"steps": config.steps}

    return Stage("count", "number", Run, run)


def test_stage_reruns_as_a_no_op_and_survives_failure(tmp_path: Path) -> None:
    calls: list[str] = []
    stage, log = _stage(calls), Log(quiet=True)
    first = run_stage(stage, Run(), {}, tmp_path, log=log)
    again = run_stage(stage, Run(), {}, tmp_path, log=log)
    assert calls == ["run"] and first.path == again.path and first.digest == again.digest
    assert Run.from_yaml(first.path / "config.yaml") == Run()
    assert read_metrics(first.path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
    assert run_stage(stage, Run(steps=6), {}, tmp_path, log=log).path != first.path
    with pytest.raises(HanokError, match="unlucky"):
        run_stage(stage, Run(steps=13), {}, tmp_path, log=log)
    assert not list(tmp_path.glob("count-*/")) or len(list(tmp_path.glob("*.partial"))) == 1
    with pytest.raises(UsageError, match="nothing to resume"):
        run_stage(stage, Run(steps=99), {}, tmp_path, log=log, resume="true")
    run_stage(stage, Run(), {}, tmp_path, log=log, resume="false")
    assert len(calls) == 4


def test_what_a_kill_left_half_written_is_no_part_of_the_artifact(tmp_path: Path) -> None:
    calls: list[str] = []
    whole = run_stage(_stage(calls), Run(), {}, tmp_path / "a", log=Log(quiet=True))
    work = tmp_path / "b" / f"{whole.path.name}.partial"
    (work / "inner" / ".deep.x.tmp").mkdir(parents=True)
    (work / "inner" / ".deep.x.tmp" / "file").write_text("half")
    (work / ".config.yaml.x.tmp").write_text("half")
    again = run_stage(_stage(calls), Run(), {}, tmp_path / "b", log=Log(quiet=True))
    assert again.files.keys() == whole.files.keys()


def test_stage_checks_inputs_before_anything_runs(tmp_path: Path) -> None:
    calls: list[str] = []
    log = Log(quiet=True)
    made = run_stage(_stage(calls), Run(), {}, tmp_path, log=log)
    needs = Stage("next", "thing", Run, _stage(calls).run, {"model": "model"})
    with pytest.raises(ArtifactError, match="needs a 'model' artifact"):
        run_stage(needs, Run(), {"model": made.path}, tmp_path, log=log)
    with pytest.raises(UsageError, match="does not exist"):
        run_stage(needs, Run(), {"model": tmp_path / "absent"}, tmp_path, log=log)
    with pytest.raises(UsageError, match="takes the inputs"):
        run_stage(needs, Run(), {}, tmp_path, log=log)
    assert calls == ["run"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path / "x"), pytest.raises(HanokError, match="another process"), only_one(tmp_path / "x"):
        pass
    with only_one(tmp_path / "x"):
        pass


def test_streams_are_independent_and_come_back() -> None:
    streams, other = Streams(7), Streams(7)
    other.torch("unrelated").manual_seed(1)
    a = torch.rand(3, generator=streams.torch("a"))
    assert torch.equal(a, torch.rand(3, generator=other.torch("a")))
    streams.numpy("b").random(5), streams.python("c").random()
    state = json.loads(json.dumps(streams.state()))
    want = (torch.rand(4, generator=streams.torch("a")), streams.numpy("b").random(4), streams.python("c").random())
    back = Streams(0)
    back.restore(state)
    assert torch.equal(want[0], torch.rand(4, generator=back.torch("a")))
    assert np.array_equal(want[1], back.numpy("b").random(4)) and want[2] == back.python("c").random()


def test_missing_extra_names_the_remedy() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'hanok\[data\]'"):
        require("a_library_that_is_not_there", extra="data")
