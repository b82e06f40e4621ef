"""`hanok tokenizer train|eval`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from hanok.cli.common import Json, emit, show, table

if TYPE_CHECKING:
    from hanok.text.tokenizer import Tokenizer
    from hanok.text.tokenizer.measure import Cost, Size

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
    text: Annotated[str | None, cyclopts.Parameter(help="show how this text is cut, in colours")] = None,
    sweep: Annotated[
        list[int] | None,
        cyclopts.Parameter(help="vocabulary sizes to train at and measure", consume_multiple=True, negative=()),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="kinds of the sweep (default: the tokenizer's)", consume_multiple=True, negative=()),
    ] = None,
    html: Annotated[Path | None, cyclopts.Parameter(help="write everything as one page, with coloured strips")] = None,
    json: Json = False,
) -> None:
    """Measure a tokenizer: tokens by language, NFC against NFD, bytes per token, by size, and how it cuts.

    `hanok tokenizer eval TOKENIZER corpus.txt --sweep 1024 4096 --kinds bbpe unigram --html page.html`
    """
    from dataclasses import asdict

    from hanok.core.errors import UsageError
    from hanok.text.data.corpus import python_corpus
    from hanok.text.data.read import read_documents
    from hanok.text.tokenizer import TOKENIZERS, Tokenizer
    from hanok.text.tokenizer.fertility import evaluate, fertility
    from hanok.text.tokenizer.measure import by_language, cost, kind_of, premiums
    from hanok.text.tokenizer.measure import sweep as sizes_of

    tokenizer = Tokenizer.load(model)
    if kinds and not sweep:
        raise UsageError("--kinds says what --sweep trains: give sizes too, as --sweep 1024 4096")
    for kind in kinds or []:
        TOKENIZERS[kind]  # an unknown one is said before anything is trained
    languages = by_language(tokenizer)
    extra = premiums(languages)
    report = {"vocab_size": tokenizer.vocab_size, **evaluate(tokenizer).to_dict()}
    report["languages"] = {key: {**found.to_dict(), "premium": extra[key]} for key, found in languages.items()}
    texts = [d.text for d in read_documents(data)] if data else []
    if data:
        report["your text"] = {**asdict(fertility(tokenizer, texts)), **cost(tokenizer, texts).to_dict()}
    sizes = list(sizes_of(texts or python_corpus().documents, sweep, kinds or [kind_of(tokenizer)])) if sweep else []
    if sizes:
        report["sweep"] = [asdict(size) for size in sizes]
    if html is not None:
        report["page"] = str(_page(html, tokenizer, str(model), (text, texts), (languages, sizes)))
    if json:
        emit(report, as_json=True)
    else:
        _show(tokenizer, report, text)


def _page(
    file: Path,
    tokenizer: Tokenizer,
    name: str,
    texts: tuple[str | None, Sequence[str]],
    found: tuple[Mapping[str, Cost], Sequence[Size]],
) -> Path:
    """Write the page; its strips are the text of `--text`, the beginning of the user's files, and two languages."""
    from hanok.core.artifact import atomic_write
    from hanok.report.tokenizer import page
    from hanok.text.tokenizer.fertility import ENGLISH, KOREAN
    from hanok.text.tokenizer.measure import kind_of

    shown = {"your text": texts[0]} if texts[0] else {}
    shown |= {f"document {at}": text[:600] for at, text in enumerate(texts[1][:2], 1)}
    shown |= {"English": " ".join(ENGLISH), "Korean": " ".join(KOREAN)}
    languages, sizes = found
    atomic_write(file, page(tokenizer, languages, shown, name=name, kind=kind_of(tokenizer), sizes=sizes))
    return file


def _show(tokenizer: Tokenizer, report: dict[str, Any], text: str | None) -> None:
    """Print the figures as tables, and the text as a coloured strip."""
    from hanok.text.tokenizer.strips import cells, count, strip

    columns = ("tokens", "premium", "bytes_per_token", "chars_per_token", "tokens_per_word", "nfd_ratio", "unknown")
    headers = [name.replace("_", " ") for name in columns]
    rows = {key: report.pop(key) for key in ("languages", "sweep") if key in report}
    emit(report, as_json=False)
    print()
    table(
        [
            [language, *(_cell(name, found) for name in columns), "yes" if found["same"] else "no"]
            for language, found in rows["languages"].items()
        ],
        ["language", *headers, "comes back"],
    )
    if "sweep" in rows:
        print()
        names = [name for name in columns if name != "premium"]
        table(
            [[s["kind"], show(s["vocab_size"]), *(_cell(name, s["cost"]) for name in names)] for s in rows["sweep"]],
            ["kind", "size", *(name.replace("_", " ") for name in names)],
        )
    if text:
        parts = cells(tokenizer, text)
        print(f"\n{strip(parts, colour=sys.stdout.isatty())}\n{count(parts)} tokens")


def _cell(name: str, found: Mapping[str, Any]) -> str:
    return f"{found[name]:.1%}" if name == "unknown" else show(found[name])
