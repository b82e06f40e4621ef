from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hanok.cli import data_clean
from hanok.cli import execute as run
from hanok.core.artifact import Artifact

Verb = Callable[..., Path]
PHRASE = "the roof of a house and the floor that have beams with joints to be cut from timber"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = [" ".join([PHRASE[i % 9 * 4 :], f"number {i} of many."] * 5) for i in range(70)]
    rows = [*({"text": text, "url": f"u{i}"} for i, text in enumerate(texts)), {"text": texts[3]}, {"text": "x"}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Return verb(*argv): the path that a command has printed."""

    def do(*argv: str) -> Path:
        assert run([*argv, "-o", str(tmp_path / "runs"), "-q", "--json"]) == 0, capsys.readouterr().err
        return Path(json.loads(capsys.readouterr().out.splitlines()[-1])["path"])

    return do


FEW = ["minhash=null", "filters=[length]"]


def test_documents_are_cleaned_prepared_trained_on_and_reported(
    corpus: Path, verb: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = verb("data", "clean", "--data", str(corpus), *FEW, "--workers", "1")
    artifact = Artifact.load(clean)
    assert artifact.kind == "documents" and artifact.metrics["documents"] == 71 and artifact.metrics["dropped"] == 1
    tokens = verb("data", "prepare", "--data", str(clean), "vocab_size=300", "valid_share=0.1")
    assert (tokens / "train" / "origins.jsonl").is_file()
    at_once = verb(
        "data", "prepare", "--clean", "--data", str(corpus), *[f"clean.{word}" for word in FEW], "vocab_size=300",
        "valid_share=0.1",
    )  # fmt: skip
    assert at_once == tokens, "the same stages, found again"
    train = ["steps=2", "batch=2", "length=32", "dials.dim=32", "dials.depth=1"]
    verb("pretrain", "--data", str(tokens), *train)
    verb("pretrain", "--data", str(clean), *train)  # which tokenises first
    assert run(["report", str(tmp_path / "runs"), "--json"]) == 0
    page = (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    assert "Documents left after each step" in page and "exact: copy" in page


def test_the_funnel_is_printed_as_a_table(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "clean", "--data", str(corpus), *FEW, "-o", str(tmp_path), "-q"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2][:4] == ["read", "72", "0", "72"] and lines[2][-1] == "100.0%"
    assert ["exact", "72", "1", "71"] in [line[:4] for line in lines]
    assert any(line[:3] == ["exact", "copy", "1"] for line in lines)


def test_recall_of_near_copies_is_printed_beside_the_theory(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_clean, "PAIRS", 200)
    argv = ["data", "clean", "--data", str(corpus), "filters=[]", "--workers", "1", "-o", str(tmp_path), "-q"]
    assert run(argv) == 0
    said = capsys.readouterr().out
    assert "14 bands of 8" in said and "furthest from the theory" in said
    assert run([*argv, "--json"]) == 0
    (found,) = [row for row in json.loads(capsys.readouterr().out)["dedup_recall"]["recalls"] if row["jaccard"] == 0.8]
    assert found["expected"] == pytest.approx(1 - (1 - 0.8**8) ** 14) and abs(found["measured"] - 0.92) < 0.1


def test_a_model_of_good_text_filters_strange_text(
    tmp_path: Path, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a text file to dropped documents, by commands alone."""
    rng, words = random.Random(0), PHRASE.split()
    good = tmp_path / "good.txt"
    good.write_text("\n".join(" ".join(rng.choices(words, k=12)) for _ in range(900)), encoding="utf-8")
    model = tmp_path / "good.safetensors"
    assert run(["data", "ngram", str(good), "-o", str(model), "--order", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["p5_bits"] <= told["median_bits"] <= told["p95_bits"] < 3
    rows = [" ".join(rng.choices(words, k=40)) for _ in range(8)]
    strange = ["".join(rng.choices("qwzxjkv{}<>#%0123456789", k=200)) for _ in range(4)]
    page = tmp_path / "pages.jsonl"
    page.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows + strange))
    bound = f"filters=[{{kind: perplexity, model: {model}, max_bits: {told['p95_bits'] + 1}}}]"
    kept = Artifact.load(
        verb("data", "clean", "--data", str(page), bound, "clean=null", "minhash=null", "--workers", "1")
    )
    assert kept.metrics["documents"] == 8
    assert kept.metrics["funnel"]["perplexity"]["dropped"]["high perplexity"][0] == 4
    assert run(["data", "ngram", str(page), "-o", str(model), "--order", "9"]) == 2
    assert "order must lie in 1 to 7" in capsys.readouterr().err
    assert run(["data", "ngram", str(page), "-o", str(model), "--column", "txt"]) == 2
    assert "txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["clean", "--data", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["clean", "--data", "{corpus}", "--engine", "rey"], "unknown data engine 'rey'; did you mean 'ray'"),
        (["clean", "--data", "{corpus}", "--workers", "0"], "--workers must be at least 1"),
        (["clean", "--data", "{corpus}", "filters=[gofer_quality]"], "did you mean 'gopher_quality'"),
        (["clean", "--data", "{corpus}", "column=txt"], "a.jsonl, line 1: no column 'txt'"),
        (["clean", "--data", "{corpus}", "minhesh=null"], "did you mean 'minhash'"),
        (["prepare", "--clean", "--data", "{corpus}", "vocab_size=3"], "vocab_size"),
        (["prepare", "--data", "{corpus}", "clean=yes"], "holds the settings of the pipeline"),
    ],
)
def test_what_is_wrong_is_said(
    argv: list[str], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [word.format(corpus=corpus) for word in argv]
    assert run(["data", *argv, "-o", str(tmp_path / "runs"), "-q"]) == 2
    assert message in capsys.readouterr().err
