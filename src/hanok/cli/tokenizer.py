"""`hanok tokenizer train|eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit

app = cyclopts.App(name="tokenizer", help="Train a tokenizer on your text, or measure one.")


@app.command
def train(
    *data: Annotated[str, cyclopts.Parameter(help="files, folders or globs (default: Python's own prose)")],
    output_dir: Annotated[Path, cyclopts.Parameter(name=["--output-dir", "-o"], help="folder for tokenizer.json")],
    vocab_size: int = 4096,
    kind: str = "bbpe",
    json: Json = False,
) -> None:
    """Train a tokenizer: `hanok tokenizer train corpus/*.txt --vocab-size 8192 -o tokenizer`."""
    from hanok.core.artifact import atomic_directory
    from hanok.core.errors import UsageError
    from hanok.text.data.corpus import python_corpus
    from hanok.text.data.read import read_documents
    from hanok.text.tokenizer import Tokenizer
    from hanok.text.tokenizer.fertility import evaluate

    if output_dir.exists() and any(output_dir.iterdir()):
        raise UsageError(f"{output_dir} is not empty: choose a new folder, so that nothing is lost")
    texts = [d.text for d in read_documents(data)] if data else python_corpus().documents
    tokenizer = Tokenizer.train(texts, vocab_size=vocab_size, kind=kind)
    with atomic_directory(output_dir) as work:
        tokenizer.save(work)
    emit({"path": str(output_dir), "vocab_size": tokenizer.vocab_size, **evaluate(tokenizer).to_dict()}, as_json=json)


@app.command
def eval(
    model: Annotated[Path, cyclopts.Parameter(help="folder with a tokenizer.json")],
    *data: Annotated[str, cyclopts.Parameter(help="your own text, measured too")],
    json: Json = False,
) -> None:
    """Measure a tokenizer: characters, syllables and words per token in English and Korean, and what NFD costs."""
    from hanok.text.data.read import read_documents
    from hanok.text.tokenizer import Tokenizer
    from hanok.text.tokenizer.fertility import evaluate, fertility

    tokenizer = Tokenizer.load(model)
    report = {"vocab_size": tokenizer.vocab_size, **evaluate(tokenizer).to_dict()}
    if data:
        from dataclasses import asdict

        report["your text"] = asdict(fertility(tokenizer, [d.text for d in read_documents(data)]))
    emit(report, as_json=json)
