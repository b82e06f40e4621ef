"""Runs for a report, written as the stages write them: small files, real manifests, hashes that fit together."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from hanok.core.artifact import Artifact, write_manifest
from hanok.eval.figure import accuracy

TASKS = {"addition": 0.005, "copy": 0.18, "josa": 0.5}
TRAINING = {"steps": 60, "batch": 8, "length": 128, "seed": 0, "optimizer": {"kind": "adamw", "lr": 0.001}}
LOOP = {"loop": {"numerics": "exact", "compute": "float32"}, "updates": 1}


class Maker:
    """Writes artifacts into a run's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: dict[str, Artifact] = {}

    def add(
        self,
        step: str,
        kind: str,
        files: dict[str, Any],
        metrics: dict[str, Any],
        config: dict[str, Any] | None = None,
        **inputs: str,
    ) -> Artifact:
        path = self.root / f"{step}-{len(self.made):010x}"
        path.mkdir(parents=True)
        for name, content in {"config.yaml": "seed: 0\n", **files}.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (path / name).write_text(text, encoding="utf-8")
        digests = {name: self.made[source].digest for name, source in inputs.items()}
        name = "eval" if step.startswith("eval-") else step
        write_manifest(
            path, kind=kind, name=name, config=config or {}, inputs=digests, metrics={"seconds": 2.5, **metrics}
        )
        self.made[step] = Artifact.load(path)
        return self.made[step]

    def model(self, step: str, records: list[dict[str, Any]], metrics: dict[str, Any], **inputs: str) -> Artifact:
        files = {"metrics.jsonl": jsonl(records), "model.safetensors": step * 100}
        return self.add(step, "model", files, metrics, TRAINING | LOOP, **inputs)

    def scores(
        self, label: str, model: str, right: dict[str, float], *, bits: float | None = None, said: str = "good"
    ) -> Artifact:
        results: dict[str, Any] = {"label": label, "numerics": "exact", "tasks": {}, "baselines": {}}
        files: dict[str, Any] = {}
        for task, share in right.items():
            rows = [
                {
                    "prompt": f"{task} {number}",
                    "answer": "good",
                    "completion": said if number < 200 * share else "bad",
                    "score": float(number < 200 * share),
                }
                for number in range(200)
            ]
            files[f"samples_{task}.jsonl"] = jsonl(rows)
            results["tasks"][task] = accuracy(task, [row["score"] for row in rows], TASKS.get(task, 0.1)).to_dict()
        if bits is not None:
            results["text"] = {"bits_per_byte": bits}
            results["baselines"] = {"uniform": 8.0, "gzip": 2.9, "ngram": 2.4}
        config = {"label": label}
        return self.add(f"eval-{label}", "scores", {"results.json": results, **files}, {}, config, model=model)


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def training(*names: str, steps: int = 60) -> list[dict[str, Any]]:
    noise = random.Random(0)
    return [{"step": step, **{name: 3 / step + noise.random() for name in names}} for step in range(1, steps + 1)]


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "run")


@pytest.fixture
def whole(maker: Maker) -> Maker:
    """A quickstart's artifacts: SFT teaches, GRPO teaches copying, int8 costs nothing, the ladder holds."""
    machine = {"processor": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None, "torch": "2.13", "python": "3.11"}
    plan = {"depth": 4, "pretrain_steps": 60, "sft_steps": 30, "tokens_per_second": 9000.0}
    maker.add("plan", "plan", {"plan.json": plan, "machine.json": machine}, {**plan, "machine": machine}, {"seed": 7})
    fertility = {
        name: {"chars_per_token": 2.5, "bytes_per_token": 2.5, "tokens_per_syllable": 2.7, "tokens_per_eojeol": 7.0}
        for name in ("english", "korean")
    }
    counts = {"corpus_sha256": "abc123" * 10, "train_tokens": 1000, "vocab_size": 300, "task_share": 0.3}
    meta = {"source": "books", **counts, "fertility": {**fertility, "nfd_ratio": 1.0}}
    maker.add("data", "tokens", {"meta.json": meta}, counts)
    facts = {name: {"config": {"kind": name, "digits": [1, 2]}, "chance": chance} for name, chance in TASKS.items()}
    maker.add("tasks", "tasks", {"tasks.json": facts}, {"held_out": 600})
    records = [
        {"step": 0, "val/loss": 7.0},
        *training("train/loss", "train/lr", "train/grad_norm", "train/tok_per_sec"),
    ]
    done = {"steps": 60, "num_tokens": 61440, "parameters": 685000, "epochs": 0.5}
    maker.model("pretrain", [*records, {"step": 60, "val/loss": 3.0}], done, tokens="data")
    maker.scores("base", "pretrain", dict.fromkeys(TASKS, 0.0), bits=2.2)
    maker.model(
        "sft", training("loss", "grad_norm", "learning_rate", "mean_token_accuracy"), {"steps": 60}, model="pretrain"
    )
    maker.scores("sft", "sft", {"addition": 0.3, "copy": 0.5, "josa": 0.95})
    rewards = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "loss")
    maker.model("dpo", training(*rewards), {"steps": 60}, model="sft")
    maker.scores("dpo", "dpo", {"addition": 0.3, "copy": 0.51, "josa": 0.95})
    valid = {"valid/addition": 0.3, "valid/copy": 0.5, "valid/josa": 0.97}
    maker.add(
        "focus", "prompts", {"prompts.jsonl": ""}, {"tasks": "addition, copy", "prompts": 800, **valid}, model="dpo"
    )
    rows = [row | {"ratio/min": 1.0, "ratio/max": 1.0} for row in training("reward", "reward_std", "entropy")]
    maker.model("grpo", rows, {"steps": 60}, model="dpo")
    maker.scores("grpo", "grpo", {"addition": 0.31, "copy": 0.75, "josa": 0.95}, bits=2.3)
    maker.add("ladder", "ladder", {"ladder.json": ladder(3.05)}, {"predicted": 3.0})
    layers = [
        {
            "name": f"blocks.{n}.up",
            "shape": [8, 8],
            "weight_error": 0.01 * n,
            "max_weight_error": 0.1,
            "output_error": 0.02,
        }
        for n in range(4)
    ]
    sizes = {
        "bytes_before": 2_000_000,
        "bytes_after": 700_000,
        "ratio": 0.35,
        "layers": 4,
        "worst_layer": "blocks.3.up",
    }
    maker.add("quantize", "model", {"quantize.json": {**sizes, "per_layer": layers}}, sizes, model="grpo")
    maker.scores("int8", "quantize", {"addition": 0.31, "copy": 0.745, "josa": 0.95}, bits=2.301)
    samples = [{"prompt": "3 + 4 =", "text": "7", "tokens": 2, "ttft": 0.01, "seconds": 0.02}]
    speeds = {"url": "http://127.0.0.1:8000", "ttft_ms": 10.0, "tokens_per_second": 100.0, "clients": 8}
    speeds |= {"clients_tokens_per_second": 300.0}
    maker.add("serve", "serve", {"serve.json": {**speeds, "samples": samples}}, speeds, model="grpo")
    return maker


def ladder(measured: float) -> dict[str, Any]:
    """What the ladder stage writes, with a held-out run of the given loss (predicted: 3.0, between 2.9 and 3.1)."""
    said = {"params": 9000, "tokens": 80000, "loss": 3.0, "low": 2.9, "high": 3.1, "level": 0.9}
    curve = {"params": 9000, "tokens": [1e4, 1e5], "loss": [3.5, 2.9], "low": [3.4, 2.8], "high": [3.6, 3.0]}
    return {
        "runs": [{"params": n, "tokens": d, "loss": 5 - n / 4000 - d / 1e5} for n in (1000, 4000) for d in (1e4, 4e4)],
        "held_out": {"params": 9000, "tokens": 80000, "loss": measured},
        "fit": {"law": "chinchilla", "values": {"E": 1.5}, "intervals": {"E": [1.2, 1.7]}, "level": 0.9, "runs": 4},
        "prediction": said,
        "measured": measured,
        "curves": [curve],
    }
