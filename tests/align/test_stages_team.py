"""Fine-tuning and preference learning on two processes are what they are on one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hanok.align.stages import DPOConfig, GRPOConfig, dpo, grpo
from hanok.cli import execute
from hanok.core.errors import UsageError
from hanok.core.log import Log, read_metrics
from hanok.train.parallel.local import on_ranks
from hanok.train.stages import SFTConfig, sft

QUIET = Log(quiet=True)
SHARED: dict[str, Any] = {"steps": 10, "batch": 4, "length": 48, "loop": {"accumulate": 2}, "device": "cpu"}
ADAMW = {"kind": "adamw", "lr": 0.003, "weight_decay": 0.0}


def run(kind: str, home: Path, out: Path, layout: dict[str, int]) -> None:
    settings = {**SHARED, "optimizer": ADAMW, "parallel": layout}
    inputs = {"model": home / "model"}
    if kind == "sft":
        sft(SFTConfig.parse(settings), {**inputs, "conversations": home / "conversations.jsonl"}, out, QUIET)
    else:
        dpo(DPOConfig.parse(settings), {**inputs, "preferences": home / "preferences.jsonl"}, out, QUIET)


@pytest.mark.parametrize("layout", [{"data": 2}, pytest.param({"shard": 2}, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_two_processes_equal_one(kind: str, layout: dict[str, int], home: Path) -> None:
    turns = [json.loads(line) for line in (home / "preferences.jsonl").read_text().splitlines()]
    chats = [{"prompt": row["prompt"] * (1 + i % 5), "completion": row["chosen"]} for i, row in enumerate(turns)]
    (home / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    found = []
    for name, own in (("one", {}), ("two", layout)):
        on_ranks(partial(run, kind, home, home / name, own), 2 if own else 1)
        found.append([record["loss"] for record in read_metrics(home / name / "metrics.jsonl")])
    assert len(found[0]) == 10 and found[0][-1] < found[0][0]
    assert max(abs(a - b) for a, b in zip(*found, strict=True)) < 1e-6
    assert (home / "two" / "model.safetensors").is_file()


def test_what_takes_one_process_says_so(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = {"model": home / "model", "prompts": home / "prompts.jsonl"}
    with pytest.raises(UsageError, match="grpo samples from the model that it trains"):
        grpo(GRPOConfig.parse({**SHARED, "parallel": {"data": 2}}), inputs, tmp_path, QUIET)
    with pytest.raises(UsageError, match="dpo compares whole answers"):
        dpo(DPOConfig.parse({**SHARED, "parallel": {"context": 2}}), {}, tmp_path, QUIET)
    assert execute(["grpo", "model", "--data", "x", "steps=1", "--", "--nproc-per-node=2"]) == 2
    assert "'grpo' is work for one process; several can share pretrain, sft, dpo" in capsys.readouterr().err
