"""`hanok data score` and `hanok data select`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, ModelDir, emit, model_path

By = Annotated[str, cyclopts.Parameter(help="entropy, margin, confidence or loss")]


def score(
    model: ModelDir,
    *,
    data: Annotated[Path, cyclopts.Parameter(name=["--data", "-d"], help="prepared tokens")],
    output_dir: Annotated[Path, cyclopts.Parameter(name=["--output-dir", "-o"], help="folder for the scores")],
    by: By = "loss",
    length: Annotated[int | None, cyclopts.Parameter(help="tokens read at once (default: the model's context)")] = None,
    device: str = "auto",
    json: Json = False,
) -> None:
    """Score documents by how unsure a model is, for a curriculum: `hanok data score MODEL -d DATA -o scores`.

    `hanok pretrain --data DATA mixture.curriculum.by.kind=stored mixture.curriculum.by.path=scores` then begins with
    the documents that score low (with `mixture.curriculum.descending=true`, high).
    """
    import numpy as np

    from hanok.core.errors import UsageError
    from hanok.text.data.score.stored import write_scores
    from hanok.text.data.shard import Shards
    from hanok.text.data.sources import training_shards
    from hanok.train.bundle import Bundle
    from hanok.train.select import document_scores

    bundle, shards = Bundle.load(model_path(model), device=device), Shards(training_shards(data))
    if int(shards.index["vocab_size"]) > bundle.model.config.vocab:
        raise UsageError(f"{data} was made with another tokenizer than the model's: its vocabulary is larger")
    context = min(length or bundle.model.config.context, bundle.model.config.context)
    found = document_scores(bundle.model, shards, by, length=context)
    file = write_scores(output_dir, found, shards, by=by)
    low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
    emit(
        {"path": str(file), "documents": len(found), "by": by, "p10": low, "median": middle, "p90": high}, as_json=json
    )


def select(
    model: ModelDir,
    *,
    data: Annotated[
        list[str], cyclopts.Parameter(name=["--data", "-d"], help="pool: texts, questions or conversations")
    ],
    number: Annotated[int, cyclopts.Parameter(name=["--number", "-n"], help="how many to choose")],
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"], help="JSONL file for the chosen rows")],
    by: By = "entropy",
    tokens: Annotated[int, cyclopts.Parameter(help="tokens of the model's own answer that are looked at")] = 4,
    explore: Annotated[float, cyclopts.Parameter(help="share that is drawn at random")] = 0.0,
    seed: int = 0,
    device: str = "auto",
    json: Json = False,
) -> None:
    """Choose what to label or to learn next: the rows a model is least sure of, most unsure first.

    Rows with nothing but a `prompt` are questions: the model's own answer is looked at. In conversations what the
    assistant says counts, in texts every token.
    """
    import json as text

    from hanok.core.artifact import atomic_write
    from hanok.core.errors import UsageError
    from hanok.text.data.read import read_records
    from hanok.train.bundle import Bundle
    from hanok.train.pool import pool_scores
    from hanok.train.select import choose

    if output.exists():
        raise UsageError(f"{output} exists already: choose a new file, so that nothing is lost")
    records = list(read_records(data))
    if number > len(records):
        raise UsageError(f"cannot choose {number} of the {len(records)} rows in {', '.join(data)}")
    bundle = Bundle.load(model_path(model), device=device)
    scores = pool_scores(bundle, records, by, tokens=tokens)
    places = choose(scores, number, explore=explore, seed=seed)
    rows = [{**records[i].row, by: round(float(scores[i]), 6)} for i in places]
    atomic_write(output, "".join(text.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    mean = {"mean_of_all": float(scores.mean()), "mean_of_chosen": float(scores[places].mean())}
    emit({"path": str(output), "chosen": number, "of": len(records), "by": by, **mean}, as_json=json)
