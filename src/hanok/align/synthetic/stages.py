"""The stage `synthesize`: seeds and a model in, rows to train on out, and a journal of everything that was said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from hanok.align.reward import REWARDS
from hanok.align.synthetic.ask import Method, Row, Writer
from hanok.align.synthetic.journal import Journal
from hanok.align.synthetic.judge import Judge, Verifier
from hanok.align.synthetic.method import METHODS
from hanok.align.synthetic.method.self_instruct import SelfInstruct
from hanok.align.synthetic.write import Plan, Run
from hanok.core.artifact import atomic_write
from hanok.core.config import Config, spec_type
from hanok.core.errors import HanokError, Interrupted, UsageError
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.text.data.read import read_records

JOURNAL, ROWS, DROPPED = "journal.tsv", "train.jsonl", "dropped.jsonl"


class SynthesisConfig(Config):
    """How rows are made and judged; `rows` None goes through all turns of a method that has an end.

    `novelty` is the highest ROUGE-L with anything that is there, null compares exact copies alone. A row passes the
    `rewards` if their weighted sum is at least `threshold`. `patience` is how many rounds may bring nothing.
    """

    method: spec_type(METHODS) = SelfInstruct.Config()  # type: ignore[valid-type]
    rows: int | None = Field(None, ge=1)
    batch: int = Field(16, ge=1)
    patience: int = Field(5, ge=1)
    max_tokens: int = Field(1024, ge=1)
    temperature: float = Field(0.7, ge=0)
    novelty: float | None = Field(0.7, ge=0, le=1)
    rewards: tuple[spec_type(REWARDS), ...] = ()  # type: ignore[valid-type]
    threshold: float = 1.0
    whole: bool = True
    seed: int = 0
    model: str = ""  # who writes, where that is not an input of the stage


def synthesis_stage(writer: Writer, inputs: Mapping[str, str], config: SynthesisConfig) -> Stage:
    """Return the stage with a writer; `inputs` are the kinds of what it is named by: the seeds, perhaps a model.

    The kind of what comes out is that of the method's rows.
    """
    kind = METHODS[config.method.kind].makes
    return Stage("synthesize", kind, SynthesisConfig, partial(synthesize, writer), inputs)


def synthesize(writer: Writer, config: SynthesisConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write `train.jsonl`, `dropped.jsonl` and the journal, and return counts; goes on where a killed run stopped."""
    method: Method = METHODS[config.method.kind](config.method)
    seeds = read_seeds(method, inputs["seeds"])
    if config.rows is None and method.turns(len(seeds)) is None:
        raise UsageError(f"the method {config.method.kind!r} has no end of its own: say how many rows, as rows=1000")
    plan = Plan(config.rows, config.batch, config.patience, config.max_tokens, config.temperature, config.seed)
    with Journal(out / JOURNAL) as journal:
        if journal.cut:
            log.info(f"{journal.cut} bytes at the end of {JOURNAL} were torn and are made again")
        try:
            rows = Run(method, writer, _judge(config), journal, plan, log).rows(seeds)
        except KeyboardInterrupt:
            raise Interrupted("stopped; every reply so far is kept") from None
        dropped = [pair for closed in journal.rounds for pair in closed["dropped"]]
        rounds = len(journal.rounds)
    if not rows:
        raise HanokError(f"none of {len(dropped)} drafts was kept: {_reasons(dropped)}")
    atomic_write(out / ROWS, _lines(rows))
    atomic_write(out / DROPPED, _lines([{"id": name, "reason": reason} for name, reason in dropped]))
    return {
        "rows": len(rows),
        "rounds": rounds,
        "drafts": sum(len(closed["rows"]) for closed in journal.rounds) + len(dropped),
        "dropped": _reasons(dropped),
    }


def read_seeds(method: Method, path: Path) -> list[Row]:
    """Return the seeds of a file or folder in the form that a method reads."""
    seeds = [method.seed(record.row, f"{record.file}, line {record.line}") for record in read_records([path])]
    if not seeds:
        raise UsageError(f"{path} holds no seeds")
    return seeds


def _judge(config: SynthesisConfig) -> Judge:
    rewards = [(spec.kind, spec.weight, REWARDS[spec.kind](spec)) for spec in config.rewards]
    verifier = Verifier(rewards, config.threshold) if rewards else None
    return Judge(novelty=config.novelty, verifier=verifier, whole=config.whole)


def _reasons(dropped: list[list[str]]) -> dict[str, int]:
    """Return how many drafts each reason dropped; names and numbers in a reason are left out."""
    kinds = ("ROUGE-L", "a copy of", "the verifier")
    names = [next((kind for kind in kinds if reason.startswith(kind)), reason) for _, reason in dropped]
    return dict(Counter(names).most_common())


def _lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
