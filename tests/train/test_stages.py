"""Pre-training and fine-tuning as stages: they learn, resume, write what other tools read, and name mistakes."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hanok.core.errors import Interrupted, UsageError
from hanok.core.log import Log, read_metrics
from hanok.core.stage import run_stage
from hanok.model.weights import load_model
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.stages import PRETRAIN, SFT, PretrainConfig, SFTConfig, pretrain

QUIET = Log(quiet=True)
DIALS = {"dim": 32, "depth": 2, "heads": 2, "kv_heads": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with token shards, conversations and a fine-tuning folder."""
    path = tmp_path_factory.mktemp("stages")
    rng = random.Random(0)
    texts = [" ".join(rng.choices(["ab", "cd", "ef", "gh"], [8, 4, 2, 1], k=20)) for _ in range(200)]
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    (path / "tokens").mkdir()
    tokenizer.save(path / "tokens")
    for split, part in (("train", texts[:160]), ("valid", texts[160:])):
        documents = [tokenizer.encode_document(text) for text in part]
        size = sum(len(text.encode()) for text in part)
        write_shards(path / "tokens" / split, documents, vocab_size=tokenizer.vocab_size, num_bytes=size)
    rows = [
        {"messages": [{"role": "user", "content": w}, {"role": "assistant", "content": w.upper()}]}
        for w in rng.choices(["ab", "cd", "ef", "gh"], k=60)
    ]
    (path / "folder").mkdir()
    (path / "folder" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:50]))
    (path / "folder" / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[50:]))
    return path


def base(home: Path, tmp_path: Path, **more: Any) -> Any:
    options = {"steps": 40, "batch": 4, "length": 32, "dials": DIALS, "validate_every": 20}
    config = PretrainConfig.parse({**options, **more})
    return run_stage(PRETRAIN, config, {"tokens": home / "tokens"}, tmp_path, log=QUIET)


def test_pretraining_learns_and_says_so(home: Path, tmp_path: Path) -> None:
    artifact = base(home, tmp_path)
    records = read_metrics(artifact.path / "metrics.jsonl")
    steps = [record for record in records if "train/loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 41))
    assert steps[-1]["train/loss"] < steps[0]["train/loss"] - 3
    names = {"train/lr", "train/lrm", "train/grad_norm", "train/dt", "train/tok_per_sec", "total_training_time"}
    assert names <= steps[-1].keys()
    checks = [record for record in records if "val/loss" in record]
    assert [record["step"] for record in checks] == [0, 20, 40]
    shards = json.loads((home / "tokens" / "valid" / "index.json").read_text())
    bits = checks[-1]["val/loss"] / math.log(2) * shards["tokens"] / shards["bytes"]
    assert checks[-1]["val/bpb"] == pytest.approx(bits)
    assert artifact.kind == "model"
    assert artifact.metrics["val/bpb"] == checks[-1]["val/bpb"]
    assert artifact.metrics["parameters"] == sum(p.numel() for p in load_model(artifact.path).parameters())
    tokens = torch.randint(0, 250, (1, 9))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(artifact.path)(tokens).logits
        torch.testing.assert_close(theirs, load_model(artifact.path)(tokens), rtol=1e-4, atol=1e-4)
    assert AutoTokenizer.from_pretrained(artifact.path).encode("ab cd") == Tokenizer.load(artifact.path).encode("ab cd")


def test_fine_tuning_learns_the_assistants_words(home: Path, tmp_path: Path) -> None:
    model = base(home, tmp_path).path
    options = {"steps": 40, "batch": 2, "length": 48, "optimizer": {"kind": "adamw", "lr": 0.01}, "validate_every": 10}
    config = SFTConfig.parse(options)
    inputs = {"model": model, "conversations": home / "folder"}
    artifact = run_stage(SFT, config, inputs, tmp_path, log=QUIET)
    records = [r for r in read_metrics(artifact.path / "metrics.jsonl") if "loss" in r]
    assert {"global_step", "loss", "mean_token_accuracy", "num_tokens", "learning_rate", "grad_norm"} <= records[
        0
    ].keys()
    assert records[-1]["mean_token_accuracy"] > 0.95
    assert artifact.metrics["val/loss"] < 0.2
    before, after = load_model(model).state_dict(), load_model(artifact.path).state_dict()
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert (artifact.path / "chat_template.jinja").is_file()
    ends = json.loads((artifact.path / "generation_config.json").read_text())["eos_token_id"]
    assert Tokenizer.load(artifact.path).specials["<|im_end|>"] in ends
    again = run_stage(SFT, config, inputs, tmp_path, log=QUIET)
    assert again.digest == artifact.digest  # a finished stage is a no-op


def test_minutes_become_steps_that_leave_no_trace(home: Path, tmp_path: Path) -> None:
    """The trial steps change neither model nor data: a run of as many steps is the same, bit by bit."""
    timed = base(home, tmp_path / "a", steps=None, minutes=0.002, validate_every=0)
    steps = int(timed.metrics["steps"])
    assert 1 <= steps < 400
    counted = base(home, tmp_path / "b", steps=steps, validate_every=0)
    assert (timed.path / "model.safetensors").read_bytes() == (counted.path / "model.safetensors").read_bytes()


def test_an_interrupted_stage_goes_on(home: Path, tmp_path: Path) -> None:
    calls = []

    def measure(model: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return {"val/loss": 0.0}

    options = {"steps": 20, "batch": 2, "length": 16, "dials": DIALS, "validate_every": 5}
    config, inputs = PretrainConfig.parse(options), {"tokens": home / "tokens"}
    with pytest.raises(Interrupted, match="after step 5 of 20"):
        pretrain(config, inputs, tmp_path / "out", QUIET, measure=measure)
    assert (tmp_path / "out" / "checkpoints" / "step-000005").is_dir()
    metrics = pretrain(config, inputs, tmp_path / "out", QUIET, measure=measure)
    assert metrics["steps"] == 20
    steps = [r["step"] for r in read_metrics(tmp_path / "out" / "metrics.jsonl") if "train/loss" in r]
    assert steps == list(range(1, 21))


def test_another_architecture_is_one_word_away(home: Path, tmp_path: Path) -> None:
    artifact = base(home, tmp_path, preset="rglru-tiny", dials={"dim": 16, "depth": 2}, steps=3)
    assert "rglru" in json.dumps(json.loads((artifact.path / "config.json").read_text()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1, "minutes": 1}, "either steps or minutes"),
        ({"steps": 1, "optimizer": "muonn"}, "did you mean 'muon'"),
        ({"steps": 1, "loop": {"acumulate": 2}}, "did you mean 'accumulate'"),
        ({"steps": 1, "preset": "llama-tyni"}, "did you mean 'llama-tiny'"),
        ({"steps": 1, "length": 100_000}, "tokens, fewer than a window"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        run_stage(PRETRAIN, PretrainConfig.parse(options), {"tokens": home / "tokens"}, tmp_path, log=QUIET)


def test_inputs_that_are_not_there_are_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token shards"):
        (tmp_path / "empty").mkdir()
        Tokenizer.load(home / "tokens").save(tmp_path / "empty")
        pretrain(PretrainConfig.parse({"steps": 1}), {"tokens": tmp_path / "empty"}, tmp_path / "out", QUIET)
    with pytest.raises(UsageError, match="not a model directory"):
        inputs = {"model": home / "tokens", "conversations": home / "folder"}
        run_stage(SFT, SFTConfig.parse({"steps": 1}), inputs, tmp_path, log=QUIET)
    model = base(home, tmp_path, steps=1).path
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": [{"role": "user", "content": "x"}]}\n{"mesages": []}\n')
    with pytest.raises(UsageError, match=r"bad.jsonl, line 2: .*did you mean 'messages'"):
        run_stage(SFT, SFTConfig.parse({"steps": 1}), {"model": model, "conversations": bad}, tmp_path, log=QUIET)
