"""`hanok classic ngram|word2vec|neighbours|analogy|export|import`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from hanok.cli.common import Json, Overrides, Quiet, data_config, emit, split_data, table
from hanok.core.errors import UsageError

if TYPE_CHECKING:
    from hanok.classic.word_vectors import WordVectors

app = cyclopts.App(name="classic", help="The models before the network: n-grams and word vectors.")

Data = Annotated[
    list[str] | None,
    cyclopts.Parameter(help="prepared tokens, or text files (default: Python's own prose)", consume_multiple=True),
]
Texts = Annotated[
    list[str] | None,
    cyclopts.Parameter(help="text files, folders or globs (default: Python's own prose)", consume_multiple=True),
]
NewDir = Annotated[Path, cyclopts.Parameter(name=["--output-dir", "-o"], help="new folder for the model")]
Vectors = Annotated[Path, cyclopts.Parameter(help="folder of a word2vec model")]


@app.command
def ngram(
    *overrides: Overrides,
    data: Data = None,
    order: Annotated[str, cyclopts.Parameter(help="such as 4, or 2-5: the best on held-out text")] = "4",
    smoothing: Annotated[
        list[str] | None, cyclopts.Parameter(help="one, or several: the best one", consume_multiple=True)
    ] = None,
    output_dir: NewDir,
    vocab_size: Annotated[int, cyclopts.Parameter(help="of the tokenizer, if the data are texts")] = 1024,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count n-grams: `hanok classic ngram --data corpus/*.txt --order 2-5 --smoothing kneser_ney katz -o DIR`.

    Overrides belong to the smoothing: `k=0.1` (add_k), `weights=[...]` (jelinek_mercer), `cutoff=7` (katz).
    """
    from tempfile import TemporaryDirectory

    from hanok.core.artifact import atomic_directory
    from hanok.core.log import Log
    from hanok.text.tokenizer import Tokenizer

    files, changes = split_data(data, overrides)
    words, changes = split_data(smoothing, changes)
    specs = read_smoothings(words or ["kneser_ney"], changes)
    orders = read_orders(order)
    refuse_full(output_dir)
    with TemporaryDirectory() as scratch:
        tokens = read_tokens(files, vocab_size, Path(scratch), Log(quiet=quiet))
        tokenizer = Tokenizer.load(tokens)
        model, facts = count(tokens, tokenizer.vocab_size, orders, specs)
    with atomic_directory(output_dir) as work:
        tokenizer.save(work)
        model.save(work / "ngram.safetensors")
    if json:
        emit({"path": str(output_dir), **finite(facts)}, as_json=True)
        return
    trials, unseen, _ = facts.pop("trials"), facts.pop("unseen"), facts.pop("learned")
    emit({"path": str(output_dir), **facts}, as_json=False)
    print()
    if len(trials) > 1:
        table(
            [[t["order"], t["smoothing"], f"{t['perplexity']:.4g}"] for t in trials],
            ["order", "smoothing", "perplexity"],
        )
        print()
    rows = [[row["order"], f"{row['contexts']:.1%}", f"{row['ngrams']:.1%}"] for row in unseen]
    table(rows, ["order", "contexts never seen", "n-grams never seen"])


@app.command
def word2vec(
    *overrides: Overrides,
    data: Texts = None,
    output_dir: NewDir,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn word vectors: `hanok classic word2vec --data corpus/*.txt predict=cbow dim=100 epochs=5 -o DIR`."""
    import time

    from hanok.classic.word2vec import Word2Vec
    from hanok.classic.words import sentences
    from hanok.core.artifact import atomic_directory
    from hanok.core.log import Log

    files, changes = split_data(data, overrides)
    config, log = Word2Vec.Config.from_yaml(None, *changes), Log(quiet=quiet)
    refuse_full(output_dir)
    text = list(sentences(read_texts(files)))
    started, losses = time.monotonic(), [0.0]

    def report(done: float, loss: float) -> None:
        losses.append(loss)
        log.progress(f"word2vec: {done:.0%}, loss {loss:.3f}")

    model = Word2Vec.fit(config, text, report)
    seconds = time.monotonic() - started
    with atomic_directory(output_dir) as work:
        model.save(work)
    read = sum(map(len, text)) * config.epochs
    facts = {
        "words": len(model.words),
        "tokens": sum(map(len, text)),
        "loss": losses[-1],
        "words_per_s": read / seconds,
    }
    emit({"path": str(output_dir), "predict": config.predict, **facts}, as_json=json)


@app.command
def neighbours(
    model: Vectors,
    word: str,
    *,
    n: Annotated[int, cyclopts.Parameter(name=["--number", "-n"], help="how many")] = 10,
    json: Json = False,
) -> None:
    """Show the words nearest to a word: `hanok classic neighbours DIR integer`."""
    show(load(model).neighbours(word, n), as_json=json)


@app.command
def analogy(
    model: Vectors,
    a: str,
    b: str,
    c: str,
    *,
    n: Annotated[int, cyclopts.Parameter(name=["--number", "-n"], help="how many")] = 5,
    json: Json = False,
) -> None:
    """Show what c is to as a is to b: `hanok classic analogy DIR man king woman`."""
    show(load(model).analogy(a, b, c, n), as_json=json)


@app.command
def export(model: Vectors, file: Annotated[Path, cyclopts.Parameter(help="text file to write")]) -> None:
    """Write word vectors in the text format that gensim and others read: `hanok classic export DIR vectors.txt`."""
    load(model).to_text(file)


@app.command(name="import")
def import_(file: Annotated[Path, cyclopts.Parameter(help="word vectors as text")], *, output_dir: NewDir) -> None:
    """Read word vectors from that text format: `hanok classic import vectors.txt -o DIR`."""
    from hanok.classic.word2vec import Word2Vec
    from hanok.classic.word_vectors import WordVectors
    from hanok.core.artifact import atomic_directory

    refuse_full(output_dir)
    model = Word2Vec.of(WordVectors.from_text(file))
    with atomic_directory(output_dir) as work:
        model.save(work)


def load(path: Path) -> WordVectors:
    """Return the word vectors of a folder."""
    from hanok.classic.directory import load_classic

    model: WordVectors = load_classic(path, "word2vec")
    return model


def show(found: list[tuple[str, float]], *, as_json: bool) -> None:
    """Print words and their cosines."""
    if as_json:
        emit({"words": [{"word": word, "cosine": value} for word, value in found]}, as_json=True)
    else:
        table([[word, f"{value:.3f}"] for word, value in found], ["word", "cosine"])


def finite(value: Any) -> Any:
    """Return JSON-able data without infinities, which JSON does not know: an infinite perplexity is null."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse_full(path: Path) -> None:
    """Refuse a folder that holds something, so that nothing is lost."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} is not empty: choose a new folder, so that nothing is lost")


def read_orders(text: str) -> list[int]:
    """Return the orders of `4` or `2-5`."""
    first, dash, last = text.partition("-")
    try:
        orders = list(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        orders = []
    if not orders or not 1 <= orders[0] <= orders[-1] <= 8:
        raise UsageError(f"--order {text!r} must look like 4, or 2-5 to choose among, and lie between 1 and 8")
    return orders


def read_smoothings(words: list[str], changes: list[str]) -> list[dict[str, Any]]:
    """Return the specs of smoothings; add_k's k is chosen on held-out text unless it is given."""
    from hanok.classic.smoothing import SMOOTHINGS
    from hanok.core.config import set_override

    if changes and len(words) > 1:
        raise UsageError(f"settings such as {changes[0]!r} go with one smoothing, not with {len(words)}")
    specs = []
    for word in words:
        spec: dict[str, Any] = {"k": None} if word == "add_k" else {}
        for change in changes:
            set_override(spec, change)
        specs.append(SMOOTHINGS[word].Config.parse({"kind": word, **spec}, where=word).to_dict())
    return specs


def read_tokens(files: list[str], vocab_size: int, scratch: Path, log: Any) -> Path:
    """Return prepared tokens: the folder given, or what the data stage makes of text in a folder of its own."""
    from hanok.core.stage import run_stage
    from hanok.text.stages import DATA

    if len(files) == 1 and (Path(files[0]) / "train" / "index.json").is_file():
        return Path(files[0])
    config = data_config(files, ["tasks=[]", f"vocab_size={vocab_size}"], None)
    return run_stage(DATA, config, {}, scratch, log=log).path


def read_texts(files: list[str]) -> list[str]:
    """Return the texts of files, or Python's own prose."""
    from hanok.text.data.corpus import python_corpus
    from hanok.text.data.read import read_documents

    if not files:
        return python_corpus().documents
    return [document.text for document in read_documents(files) if document.messages is None]


def count(tokens: Path, vocab_size: int, orders: list[int], specs: list[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """Return the n-gram model that is best on one half of the validation documents, and its figures on the other."""
    from dataclasses import asdict

    from hanok.classic.choose import choose
    from hanok.text.data.shard import INDEX, Shards

    train = list(Shards(tokens / "train").documents())
    if not (tokens / "valid" / INDEX).is_file():
        raise UsageError(f"{tokens} holds no validation tokens (valid/{INDEX}) to choose and measure on")
    valid = list(Shards(tokens / "valid").documents())
    if len(valid) == 1:  # of one document, its halves
        valid = [valid[0][: len(valid[0]) // 2], valid[0][len(valid[0]) // 2 :]]
    chosen_on, measured_on = valid[::2], valid[1::2]
    model, trials = choose(train, chosen_on, vocab_size, orders=orders, smoothings=specs)
    return model, {
        "order": model.config.order,
        "smoothing": model.config.smoothing.kind,
        "ngrams": model.sizes,
        "perplexity": model.perplexity(measured_on),
        "learned": model.learned,
        "trials": [asdict(trial) for trial in trials],
        "unseen": model.unseen(measured_on),
    }
