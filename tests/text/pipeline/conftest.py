"""A corpus with everything in it that the pipeline has to find, and the settings that find it."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanok.core.artifact import Artifact
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.data.pipeline.clean import clean_stage
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.engine import ENGINES, Engine

WORDS = "the roof of a house and the floor that have beams with joints to be cut from timber in winter when wood is dry"
WORDS += " carpenters measure twice before each cut because a column once short can never grow again so they say while"
WORDS += " paper doors let light through rooms where people sat wrote slept ate sang counted stones rain snow wind gate"
LEAK = "Which of the nine columns under the great hall of the old palace was replaced after the fire of the year 1592?"
Clean = Callable[..., Artifact]


def prose(rng: random.Random, sentences: int = 12) -> str:
    lines = [" ".join(rng.choice(WORDS.split()) for _ in range(rng.randint(8, 14))) + "." for _ in range(sentences)]
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the disk in peace: a killed process loses nothing that it has handed to the system."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Write 120 documents in four files: good ones, copies, near copies, leaks, crumbs, addresses and empty rows."""
    rng = random.Random(7)
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows: list[dict[str, Any]] = [{"text": prose(rng), "url": f"https://a.kr/{i}", "id": i} for i in range(90)]
    for i in range(8):
        rows.append({"text": rows[i]["text"].replace("\n", "  \n"), "url": "copy"})
        words = rows[20 + i]["text"].split(" ")
        words[5] = "entirely"
        rows.append({"text": " ".join(words), "url": "near"})
        rows.append({"text": prose(rng, 6) + "\n" + LEAK.upper().replace(" ", "\n", 7) + "\n" + prose(rng, 6)})
    rows += [{"text": "too short"}, {"text": " \n "}, {"text": prose(rng) + "\nWrite to kim@hanok.kr now."}]
    rng.shuffle(rows)
    (folder / "a.jsonl").write_text(_lines(rows[:60]), encoding="utf-8")
    with gzip.open(folder / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(_lines(rows[60:100]))
    (folder / "c.jsonl").write_text(_lines(rows[100:]), encoding="utf-8")
    (folder / "d.txt").write_bytes(("기와집\n" + prose(rng)).encode("cp949"))
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": LEAK}) + "\n", encoding="utf-8")
    return folder


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def leak() -> str:
    """Return the evaluation item that stands in eight documents."""
    return LEAK


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> PipelineConfig:
    """Return settings with every step."""
    return PipelineConfig.parse(
        {
            "paths": [str(corpus)],
            "unit_bytes": 12_000,
            "filters": ["gopher_quality"],
            "decontaminate": {"paths": [str(tmp_path / "eval.jsonl")]},
        }
    ).pin()


@pytest.fixture
def clean() -> Clean:
    """Return clean(config, root, engine=None): the artifact of a run."""

    def run(config: PipelineConfig, root: Path, engine: Engine | None = None) -> Artifact:
        return run_stage(clean_stage(engine or ENGINES["local"](1)), config, {}, root, log=Log(quiet=True))

    return run
