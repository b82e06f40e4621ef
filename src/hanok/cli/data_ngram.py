"""`hanok data ngram`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit

SHARES = (0.05, 0.5, 0.95)


def ngram(
    *data: Annotated[str, cyclopts.Parameter(help="good text: files, folders or globs (txt, jsonl, parquet)")],
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"], help="safetensors file for the model")],
    order: Annotated[int, cyclopts.Parameter(help="bytes in an n-gram, 1 to 7")] = 5,
    max_bytes: Annotated[int, cyclopts.Parameter(help="how much of the text is learned")] = 2**25,
    column: Annotated[str, cyclopts.Parameter(help="column of rows that holds the text")] = "text",
    json: Json = False,
) -> None:
    """Learn how good text reads, for the filter `perplexity`: `hanok data ngram wiki/*.txt -o good.safetensors`.

    What is printed are bits per byte of text that it has not learned (a tenth of what it is given): percentiles to
    choose bounds by. `hanok data clean --data corpus/ 'filters=[{kind: perplexity, model: good.safetensors, max_bits:
    3.2}]'` then drops what reads stranger.
    """
    from hanok.core.errors import UsageError
    from hanok.text.data.byte_ngram import ByteNGram, passages
    from hanok.text.data.read import read_documents

    pieces = list(passages(document.text for document in read_documents(data, column=column)))
    learned = [piece for number, piece in enumerate(pieces) if number % 10 != 9]
    held = [piece for number, piece in enumerate(pieces) if number % 10 == 9]
    if not held:
        raise UsageError(
            f"{len(pieces)} passages of text are too few to measure bounds on: give at least ten documents, or longer"
        )
    model = ByteNGram.train(learned, order=order, max_bytes=max_bytes)
    model.save(output)
    low, middle, high = model.percentiles(held, SHARES)
    size = sum(len(piece.encode("utf-8", "replace")) for piece in learned)
    emit(
        {
            "path": str(output),
            "order": order,
            "bytes": min(size, max_bytes),
            "held_out": len(held),
            "p5_bits": low,
            "median_bits": middle,
            "p95_bits": high,
        },
        as_json=json,
    )
