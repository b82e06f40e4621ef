"""`hanok data prepare|tasks|show`, and the verbs of their own files: clean, ngram, trace, score, select, synthesize."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, Out, Overrides, Quiet, ResumeOption, Settings, emit, run_verb, split_data
from hanok.cli.data_clean import EngineOption, Workers, clean
from hanok.cli.data_ngram import ngram
from hanok.cli.data_select import score, select
from hanok.cli.data_synthesize import synthesize
from hanok.cli.data_trace import trace

app = cyclopts.App(name="data", help="Prepare text for training, or show what a trainer would see.")
for verb in (clean, ngram, score, select, synthesize, trace):
    app.command(verb)


@app.command
def prepare(
    *overrides: Overrides,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(
            help="files, folders or globs (txt, jsonl, parquet), or what `hanok data clean` left", consume_multiple=True
        ),
    ] = None,
    config: ConfigFile = None,
    clean: Annotated[
        bool, cyclopts.Parameter(negative=(), help="clean first; settings of `hanok data clean` as clean.KEY=VALUE")
    ] = False,
    workers: Workers = None,
    engine: EngineOption = "local",
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a tokenizer and token shards: `hanok data prepare --data corpus/*.txt vocab_size=4096`.

    Cleaned documents (given as the folder of `hanok data clean`, or with `--clean`) are tokenised on all cores and in
    bounded memory, and the shards know where each document came from; other text is read whole and mixed with tasks.
    """
    from hanok.cli.common import data_config
    from hanok.cli.data_clean import Place, prepare_clean
    from hanok.text.stages import DATA

    files, changes = split_data(data, overrides)
    settings = Settings(changes, config, output_dir, resume, quiet, json)
    if prepare_clean(files, Place(engine, workers), settings, cleaning=clean):
        return
    run_verb(DATA, {}, settings, config=data_config(files, changes, config))


@app.command
def tasks(
    *overrides: Overrides,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make checkable items to fine-tune, align and evaluate on: `hanok data tasks conversations=500`."""
    from hanok.text.stages import TASK_SETS

    run_verb(TASK_SETS, {}, Settings(overrides, config, output_dir, "auto", quiet, json))


@app.command
def show(
    data: Annotated[Path, cyclopts.Parameter(help="conversations (JSONL)")],
    *,
    model: Annotated[Path, cyclopts.Parameter(name=["--model", "-m"], help="folder whose tokenizer is used")],
    n: Annotated[int, cyclopts.Parameter(name=["--number", "-n"], help="how many examples")] = 2,
    json: Json = False,
) -> None:
    """Show conversations as a trainer sees them; what the loss counts is marked (bold green, or in brackets)."""
    from hanok.text.chat import CHATS, load_chat
    from hanok.text.data.read import read_conversations
    from hanok.text.show import show as pieces_of
    from hanok.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(model)
    chat = load_chat(model, tokenizer) or CHATS["chatml"]()
    shown = pieces_of(read_conversations([data])[:n], tokenizer, chat)
    if json:
        rows = [[{"text": p.text, "role": p.role, "learned": p.learned} for p in s.pieces] for s in shown]
        emit({"examples": rows}, as_json=True)
        return
    mark = ("\033[1;32m", "\033[0m") if sys.stdout.isatty() else ("[", "]")
    for number, example in enumerate(shown, 1):
        text = "".join(mark[0] + p.text + mark[1] if p.learned else p.text for p in example.pieces)
        print(f"── example {number}: {example.tokens} tokens, {example.learned} learned\n{text}")
