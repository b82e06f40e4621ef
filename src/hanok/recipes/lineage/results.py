"""From artifacts to one record: results.json, the table that people read, and a CSV for every figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.device import facts
from hanok.recipes.lineage.contestants import CONTESTANTS
from hanok.recipes.lineage.figures import LEVEL, reach_of
from hanok.recipes.lineage.learn import WINDOW
from hanok.recipes.lineage.probe import chance
from hanok.recipes.lineage.schedule import Schedule
from hanok.recipes.lineage.task import PAIRS, PROBES, TRAINED_DISTANCE, TRAINED_LENGTH
from hanok.recipes.lineage.verdicts import verdicts

Json = dict[str, Any]
COLUMNS: dict[str, str] = {
    "title": "model",
    "year": "year",
    "bits_per_byte": "bits/byte",
    "bits_se": "± se",
    "recall_reach": "recall ≥ 90 % to k",
    "copy_reach": "copy to length",
    "reverse_reach": "reverse to length",
    "training_tokens_per_second": "training tokens/s",
    "decoding_tokens_per_second": "writing tokens/s",
    "bytes_per_token": "memory B/token",
    "bytes_per_source_token": "B/source token",
    "bytes_per_sequence": "B/sequence",
    "parameters": "parameters",
    "parameters_body": "beside the embedding",
    "parameters_body_active": "of these active",
    "tokens_read": "tokens read",
    "targets": "targets learned",
    "training_seconds": "seconds",
    "lr": "learning rate",
    "probe_lr": "probes' rate",
}


def collect(made: Mapping[str, Artifact], config: Json, plan: Schedule) -> Json:
    """Return everything that the page says, from the artifacts of a run."""
    rows = [_row(made, contestant.name) for contestant in CONTESTANTS if contestant.name in made]
    reach = made.get("reach")
    record = {
        "config": config,
        "machine": facts(),
        "corpus": {
            key: made["data"].metrics[key] for key in ("train_tokens", "valid_tokens", "vocab_size", "corpus_sha256")
        },
        "window": WINDOW,
        "level": LEVEL,
        "pairs": PAIRS,
        "trained": {"recall": TRAINED_DISTANCE, "copy": TRAINED_LENGTH, "reverse": TRAINED_LENGTH},
        "questions": plan.questions,
        "steps": plan.steps,
        "rows": rows,
        "reach": json.loads((reach.path / "reach.json").read_text(encoding="utf-8")) if reach else {},
        "made": [_origin(made, step) for step in made],
        "seconds": sum(float(artifact.metrics.get("seconds", 0)) for artifact in made.values()),
    }
    return record | {"verdicts": verdicts(record)}


def write_results(results: Json, root: Path) -> None:
    """Write results.json, table.md and the CSV files below figs/."""
    atomic_write(root / "results.json", json.dumps(results, indent=1) + "\n")
    lines = [f"- {verdict['text']}" for verdict in results["verdicts"]]
    atomic_write(root / "table.md", as_markdown(results["rows"]) + "\n" + "\n".join(lines) + "\n")
    for name, (columns, rows) in tables(results).items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        atomic_write(root / "figs" / f"{name}.csv", text.getvalue())


def tables(results: Json) -> dict[str, tuple[Sequence[str], list[Sequence[Any]]]]:
    """Return the numbers of every figure: name -> (columns, rows)."""
    rows = results["rows"]
    answers = ("word", "k", "right", "low", "high", "n", "tokens", "chance")
    return {
        "table": (list(COLUMNS.values()), [[row.get(key) for key in COLUMNS] for row in rows]),
        "curves": (
            ("model", "tokens", "seconds", "bits/byte"),
            [[row["title"], *point.values()] for row in rows for point in row["curve"]],
        ),
        "probes": (
            ("model", "probe", *answers[1:]),
            [[row["title"], *(each[key] for key in answers)] for row in rows for each in row["answers"]],
        ),
        "reach": (
            ("network", "tokens back", "gradient"),
            [[name, k, value] for name, curve in results["reach"].items() for k, value in enumerate(curve)],
        ),
    }


def as_markdown(rows: Sequence[Json]) -> str:
    """Return the one table."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(cell(row.get(key)) for key in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def _origin(made: Mapping[str, Artifact], step: str) -> Json:
    """Return where a step's figures come from."""
    artifact = made[step]
    makers = {other.digest: name for name, other in made.items()}
    return {
        "step": step,
        "folder": artifact.path.name,
        "digest": artifact.digest,
        "created": artifact.created,
        "seconds": artifact.metrics.get("seconds"),
        "inputs": {name: makers.get(digest, digest) for name, digest in artifact.inputs.items()},
    }


def _row(made: Mapping[str, Artifact], name: str) -> Json:
    contestant = next(each for each in CONTESTANTS if each.name == name)
    language, probes = made[name], {probe: made[f"{name}-{probe}"] for probe in PROBES}
    answers = []
    for probe, artifact in probes.items():
        for each in json.loads((artifact.path / "answers.json").read_text(encoding="utf-8")):
            answers.append(each | {"chance": chance(probe, each["k"])})
    curve = language.path / "curve.json"
    windows = json.loads((language.path / "bits.json").read_text(encoding="utf-8"))
    return {
        "name": name,
        "title": contestant.title,
        "year": contestant.year,
        "era": contestant.era,
        "reads": contestant.reads,
        **{key: value for key, value in language.metrics.items() if key != "seconds"},
        "probe_lr": probes["recall"].metrics["lr"],
        "probe_parameters": probes["recall"].metrics["parameters"],
        "probe_seconds": {probe: artifact.metrics["seconds_training"] for probe, artifact in probes.items()},
        "probe_steps": {probe: artifact.metrics["steps"] for probe, artifact in probes.items()},
        "recall_reach": reach_of(answers, "recall"),
        "copy_reach": reach_of(answers, "copy"),
        "reverse_reach": reach_of(answers, "reverse"),
        "answers": answers,
        "curve": json.loads(curve.read_text(encoding="utf-8")) if curve.is_file() else [],
        "bits": windows["bits"],
        "bytes": windows["bytes"],
    }
