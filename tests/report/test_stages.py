"""The report reads what the real stages write, not only what the other tests believe they write."""

from __future__ import annotations

import json
from pathlib import Path

from hanok.align.stages import DPO, GRPO, DPOConfig, GRPOConfig
from hanok.compress.stages import QUANTIZE, QuantizeConfig
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.eval.stages import EvalConfig, stage_for
from hanok.report import find_artifacts, write_report
from hanok.text.data.prepare import DataConfig
from hanok.text.stages import DATA, TASK_SETS
from hanok.text.task.sets import TaskSetsConfig
from hanok.train.stages import PRETRAIN, SFT, PretrainConfig, SFTConfig

LOG = Log(quiet=True)


def test_real_stages(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Line {n} of a house of timber, stone and paper, {n * n}." for n in range(300)))
    root = tmp_path / "run"
    corpus = {"paths": [str(text)], "vocab_size": 300, "tasks": ["copy"], "tokenizer_items": 50, "passage_chars": 200}
    tokens = run_stage(DATA, DataConfig.parse(corpus).pin(), {}, root, log=LOG).path
    counts = {"conversations": 40, "preferences": 20, "prompts": 20, "valid": 5, "held_out": 10}
    tasks = run_stage(TASK_SETS, TaskSetsConfig.parse({"tasks": ["copy"], **counts}), {}, root, log=LOG).path
    small = {"preset": "llama-depth", "dials": {"depth": 1}, "steps": 3, "batch": 2, "length": 64}
    model = run_stage(PRETRAIN, PretrainConfig.parse(small), {"tokens": tokens}, root, log=LOG).path
    brief = {"steps": 2, "batch": 2, "length": 64}
    for stage, config, name, file in (
        (SFT, SFTConfig.parse(brief), "conversations", tasks / "conversations.jsonl"),
        (DPO, DPOConfig.parse(brief), "preferences", tasks / "preferences.jsonl"),
        (GRPO, GRPOConfig.parse({**brief, "group": 2, "max_tokens": 4}), "prompts", tasks / "prompts.jsonl"),
    ):
        model = run_stage(stage, config, {"model": model, name: file}, root, log=LOG).path
    packed = run_stage(QUANTIZE, QuantizeConfig(), {"model": model, "tokens": tokens}, root, log=LOG).path
    for label, path in (("grpo", model), ("int8", packed)):
        inputs = {"model": path, "tasks": tasks, "tokens": tokens}
        config = EvalConfig(label=label, baselines=("uniform",), max_bytes=500, max_tokens=4)
        run_stage(stage_for(inputs), config, inputs, root, log=LOG, name=f"eval-{label}")
    write_report(find_artifacts(root), root, title="real", command="hanok quickstart")
    record = json.loads((root / "report.json").read_text(encoding="utf-8"))
    expected = {"data", "tasks", "pretrain", "sft", "dpo", "grpo", "quantize", "accuracy"}
    assert set(record["sections"]) == expected and all(record["sections"].values())
    assert record["stages"]["grpo"]["inputs"]["model"] == "dpo"
    assert record["stages"]["eval-int8"]["inputs"]["model"] == "quantize"
    said = " ".join(verdict["text"] for verdict in record["verdicts"])
    assert "The quantised model is" in said and "gave each sampled token the same probability" in said
