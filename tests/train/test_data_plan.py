"""What a run has read: written down by pretrain, asked by `hanok data trace`, equal to what training really saw."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hanok.cli import execute
from hanok.core.errors import Interrupted, UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.batch import Batch
from hanok.text.data.shard import write_shards
from hanok.text.data.stream import RowStream
from hanok.text.tokenizer import Tokenizer
from hanok.train.hook import Hook, Record
from hanok.train.hook.data_plan import open_history
from hanok.train.stages import PRETRAIN, PretrainConfig, pretrain
from hanok.train.state import TrainState

STEPS, BATCH, ACCUMULATE = 10, 3, 2


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two prepared data sets of one tokenizer."""
    path = tmp_path_factory.mktemp("plan")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 5))) for _ in range(50)]
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 20))) for _ in range(90)]
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    documents = [tokenizer.encode_document(text) for text in texts]
    for name, some in (("web", documents[:60]), ("code", documents[60:])):
        write_shards(path / name / "train", some, vocab_size=tokenizer.vocab_size, num_bytes=1)
        tokenizer.save(path / name)
        lines = [json.dumps({"id": f"{name}-{i}", "source": name}) for i in range(len(some))]
        (path / name / "train" / "origins.jsonl").write_text("\n".join(lines) + "\n")
    return path


def settings(work: Path, **more: Any) -> PretrainConfig:
    mixture = {
        "sources": {"web": str(work / "web"), "code": str(work / "code")},
        "weights": {"code": 0.2},
        "schedule": [{"start": 0.5, "weights": {"code": 0.7}}],
        "curriculum": {"by": "rarity", "buckets": 2},
    }
    dials = {"dim": 16, "depth": 1, "heads": 2, "kv_heads": 1}
    shape = {"batch": BATCH, "length": 24, "loop": {"accumulate": ACCUMULATE}, "packing": True, "save_every": 4}
    return PretrainConfig.parse({"steps": STEPS, "dials": dials, "mixture": mixture, **shape, **more})


class Watch(Hook):
    """Keeps every batch that training takes from its source, by step; may ask for an end."""

    def __init__(self, stop: int = 0) -> None:
        self.stop_at, self.seen = stop, dict[int, list[Batch]]()

    def start(self, state: TrainState) -> None:
        source = state.source
        assert isinstance(source, RowStream)
        inner = source.next_batch

        def watched() -> Batch:
            batch = inner()
            self.seen.setdefault(state.step + 1, []).append(batch)
            return batch

        source.next_batch = watched  # type: ignore[method-assign]

    def after_step(self, state: TrainState, record: Record) -> None:
        if state.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def same(batches: list[Batch], whole: Batch) -> bool:
    names = ("tokens", "targets", "weights", "positions", "segments")
    return all(torch.cat([getattr(b, name) for b in batches]).equal(getattr(whole, name)) for name in names)


def test_what_was_trained_on_is_what_the_trace_says(work: Path, tmp_path: Path) -> None:
    """Stopped and resumed, every batch is rebuilt bit for bit, the next one of a checkpoint too; so are the weights."""
    torch.set_num_threads(1)
    config, out = settings(work), tmp_path / "runs" / "one"
    first, second = Watch(stop=6), Watch()
    with pytest.raises(Interrupted):
        pretrain(config, {"tokens": work / "web"}, out, Log(quiet=True), hooks=[first])
    told = open_history(out)
    assert (told.steps, told.done, told.next) == (STEPS, 6, 7)
    checkpoint = open_history(out / "checkpoints" / "step-000004")
    assert (checkpoint.done, checkpoint.next) == (4, 5)
    assert same(first.seen[5], checkpoint.history.rebuild(checkpoint.next))
    pretrain(config, {"tokens": work / "web"}, out, Log(quiet=True), hooks=[second])
    assert sorted(second.seen) == [7, 8, 9, 10]
    seen = {**first.seen, **second.seen}
    history = open_history(out).history
    for step in range(1, STEPS + 1):
        assert same(seen[step], history.rebuild(step))
        assert {one.row for one in history.batch(step)} == set(range(BATCH * ACCUMULATE))
    assert not same(seen[1], history.rebuild(2))
    whole = tmp_path / "runs" / "whole"
    pretrain(config, {"tokens": work / "web"}, whole, Log(quiet=True))
    assert (whole / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_moved_together_and_moved_apart(work: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    shutil.copytree(work / "web", tmp_path / "a" / "web")
    config = settings(work, mixture={}, steps=2)
    out = tmp_path / "a" / "run"
    pretrain(config, {"tokens": tmp_path / "a" / "web"}, out, Log(quiet=True))
    batch = open_history(out).history.batch(1)
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_history(tmp_path / "b" / "run").history.batch(1) == batch
    (tmp_path / "b" / "web").rename(tmp_path / "far")
    with pytest.raises(UsageError, match="say where with --data"):
        open_history(tmp_path / "b" / "run")
    found = open_history(tmp_path / "b" / "run", data=tmp_path / "far").history
    assert found.batch(1) == batch
    with pytest.raises(UsageError, match="is not what"):
        open_history(tmp_path / "b" / "run", data=work / "code")
    with pytest.raises(UsageError, match="is no run of pretrain"):
        open_history(tmp_path)


def test_the_command_line(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    artifact = run_stage(PRETRAIN, settings(work), {"tokens": work / "web"}, tmp_path, log=Log(quiet=True))
    run = str(artifact.path)

    def ask(*words: str, code: int = 0) -> Any:
        assert execute(["data", "trace", *words]) == code
        printed = capsys.readouterr()
        return json.loads(printed.out) if "--json" in words else printed.out + printed.err

    said = ask(run, "--batch", "9", "--json", "--save", str(tmp_path / "batch.safetensors"), "--verify")
    assert said["rows"] == BATCH * ACCUMULATE and said["seen"] is True
    saved = load_file(tmp_path / "batch.safetensors")
    history = open_history(artifact.path).history
    tensors = [saved[name] for name in ("tokens", "targets", "weights", "positions", "segments")]
    assert same([history.rebuild(9)], Batch(tensors[0], tensors[1], tensors[2], tensors[3], tensors[4]))
    name = said["found"][0]["id"]
    sightings = ask(run, "--document", name, "--json")
    assert [9, said["found"][0]["row"]] in [[one["batch"], one["row"]] for one in sightings["found"]]
    assert sightings["seen"] == len(sightings["found"]) and sightings["ahead"] == 0
    assert name in ask(run, "--batch", "9") and "code" in ask(run, "--document", "code-3")
    assert "no document 'zzz'" in ask(run, "--document", "zzz", code=2)
    assert "not both" in ask(run, "--document", "x", "--batch", "1", code=2)
    assert "the run has 10 of them" in ask(run, "--batch", "11", code=2)


def test_several_folders_on_the_command_line(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    given = ["--data", str(work / "web"), str(work / "code"), "steps=2", "batch=2", "length=16", "dials.dim=16"]
    command = ["pretrain", *given, "dials.depth=1", "mixture.weights.code=0.5", "--json", "-q", "-o", str(tmp_path)]
    assert execute(command) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert {one.source for one in open_history(path).history.batch(1)} == {"web", "code"}
    assert execute([*command[:-2], "mixture.weights.cod=0.5", "-o", str(tmp_path)]) == 2
    assert "did you mean 'code'" in capsys.readouterr().err
