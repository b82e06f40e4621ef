"""The loop itself writes what the board and the trackers show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hanok.core.log import Log, read_metrics
from hanok.core.stage import run_stage
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.stages import PRETRAIN, PretrainConfig


def test_a_run_is_tracked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tokenizer = Tokenizer.train(["ab cd ef"] * 20, vocab_size=280)
    (tmp_path / "tokens").mkdir()
    tokenizer.save(tmp_path / "tokens")
    for split in ("train", "valid"):
        documents = [tokenizer.encode_document("ab cd ef " * 20) for _ in range(20)]
        write_shards(tmp_path / "tokens" / split, documents, vocab_size=tokenizer.vocab_size, num_bytes=3600)
    config = PretrainConfig.parse(
        {
            "steps": 4,
            "batch": 2,
            "length": 16,
            "dials": {"dim": 16, "depth": 1, "heads": 2, "kv_heads": 1},
            "track": ["tensorboard"],
        }
    )
    made = run_stage(PRETRAIN, config, {"tokens": tmp_path / "tokens"}, tmp_path / "runs", log=Log(quiet=True))
    records = read_metrics(made.path / "metrics.jsonl")
    steps = [record for record in records if "train/loss" in record]
    assert {record["max_steps"] for record in steps} == {4}
    assert all(record["memory_bytes"] > 1 << 24 for record in steps)
    found = EventAccumulator(str(made.path / "tensorboard"))
    found.Reload()
    written = np.array([record["train/loss"] for record in steps], dtype=np.float32)
    assert [event.value for event in found.Scalars("train/loss")] == written.tolist()
    assert [event.step for event in found.Scalars("val/loss")] == [0, 4]
