"""The command that does a stage again, with the same settings, on somebody's own data."""

from __future__ import annotations

import shlex

from hanok.core.artifact import Artifact
from hanok.report.run import Run

DATA = {
    "clean": "hanok data clean --data 'corpus/*.txt'",
    "data": "hanok data prepare --data 'corpus/*.txt'",
    "tokens": "hanok data prepare --clean --data 'corpus/*.txt'",
    "tasks": "hanok data tasks",
    "pretrain": "hanok pretrain --data 'corpus/*.txt'",
    "sft": "hanok sft {model} --data chat.jsonl",
    "dpo": "hanok dpo {model} --data pairs.jsonl",
    "grpo": "hanok grpo {model} --data prompts.jsonl",
    "eval": "hanok eval {model} --tasks questions.jsonl --text held_out.txt",
    "ladder": "hanok scale run --data 'corpus/*.txt'",
    "quantize": "hanok quantize {model} --text corpus.txt",
}


def again(run: Run, artifact: Artifact) -> list[str]:
    """Return the commands for an artifact's stage; none where the stage is no verb."""
    name = "tokens" if "documents" in artifact.inputs else artifact.name  # shards of documents that were cleaned first
    if name not in DATA:
        return []
    command = DATA[name].format(model=model_of(run, artifact))
    if "config.yaml" in artifact.files:
        command += f" --config {shlex.quote(run.where(artifact) + '/config.yaml')}"
    return [command]


def model_of(run: Run, artifact: Artifact) -> str:
    """Return the folder of the model that went into an artifact, or the word MODEL where it lies elsewhere."""
    step = run.maker(artifact.inputs.get("model"))
    return shlex.quote(run.where(run.artifacts[step])) if step else "MODEL"
