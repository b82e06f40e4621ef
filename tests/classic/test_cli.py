"""`hanok classic ...` and `hanok eval` on what it makes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hanok.classic.grid import grid_questions, grid_sentences
from hanok.classic.ngram import NGram
from hanok.classic.word_vectors import WordVectors
from hanok.cli import execute as run
from hanok.core.errors import UsageError
from hanok.eval import classic
from hanok.eval.likelihood import bits_per_byte, score_tokens
from hanok.text.data.shard import Shards, write_shards
from hanok.text.tokenizer import Tokenizer


def paragraphs(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    nouns, verbs = ("house", "beam", "joint", "roof", "마루"), ("holds", "carries", "joins", "opens")
    return [
        " ".join(f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}." for _ in range(6))
        for _ in range(n)
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return prepared tokens of a little made-up prose."""
    path = tmp_path_factory.mktemp("tokens")
    train, valid = paragraphs(120, 0), paragraphs(20, 1)
    tokenizer = Tokenizer.train(train, vocab_size=300)
    tokenizer.save(path)
    for name, texts in (("train", train), ("valid", valid)):
        write_shards(path / name, [tokenizer.encode_document(text) for text in texts], vocab_size=tokenizer.vocab_size)
    return path


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    code = run([*argv, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out.splitlines()[0])


def test_an_ngram_is_made_chosen_and_evaluated(prepared: Path, tmp_path: Path, capsys):
    out = tmp_path / "ngram"
    made = answer(capsys, "classic", "ngram", "--data", str(prepared), "--order", "1-4", "--smoothing", "kneser_ney",
                  "add_k", "-o", str(out), "-q")  # fmt: skip
    assert len(made["trials"]) == 8 and made["order"] >= 2
    best = min(made["trials"], key=lambda trial: trial["perplexity"])
    assert (made["order"], made["smoothing"]) == (best["order"], best["smoothing"])
    assert [row["order"] for row in made["unseen"]] == list(range(1, made["order"] + 1))
    held = list(Shards(prepared / "valid").documents())[1::2]
    model, tokenizer = NGram.load(out), Tokenizer.load(out)
    assert made["perplexity"] == pytest.approx(model.perplexity(held))
    scores = answer(capsys, "eval", str(out), "--text", str(prepared), "-o", str(tmp_path), "-q")
    # By hand: every token of the text behind BOS, in bits over the bytes of the text.
    texts = paragraphs(20, 1)
    rows = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]
    bits = -sum(float(model.logprobs(row)[1:].sum()) for row in rows) / math.log(2)
    assert scores["bits_per_byte"] == pytest.approx(bits / sum(len(text.encode()) for text in texts), rel=1e-9)
    assert scores["bits_per_byte"] < 1.5
    assert (
        run(["eval", str(out), "--text", str(prepared), "-o", str(tmp_path), "-q", "--fail-under", "bits_per_byte=0.1"])
        == 3
    )
    capsys.readouterr()
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    assert run(["eval", str(out), "-t", str(tmp_path / "t.jsonl"), "-o", str(tmp_path), "-q"]) == 2
    assert "an n-gram answers no tasks" in capsys.readouterr().err


def test_windows_do_not_change_an_ngrams_bits(prepared: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(prepared)
    config = NGram.Config(order=3, vocab_size=tokenizer.vocab_size)
    NGram(config).fit(Shards(prepared / "train").documents()).save(tmp_path / "ngram.safetensors")
    tokenizer.save(tmp_path)
    model = classic.reader(classic.load(tmp_path))
    long = [" ".join(paragraphs(4, 2))]
    assert bits_per_byte(model, long).bits == pytest.approx(
        bits_per_byte(model, long, window=16, batch=3).bits, rel=1e-12
    )
    rows = [tokenizer.encode_document(text) for text in paragraphs(3, 3)]
    assert score_tokens(model, rows, batch=1) == score_tokens(model, rows, batch=3)


def test_the_impossible_has_a_name(prepared: Path, tmp_path: Path, capsys):
    out = tmp_path / "ml"
    made = answer(capsys, "classic", "ngram", "--data", str(prepared), "--order", "6", "--smoothing", "add_k", "k=0",
                  "-o", str(out), "-q")  # fmt: skip
    assert made["perplexity"] is None and made["learned"] == {"k": 0}
    assert made["unseen"][-1]["ngrams"] > made["unseen"][0]["ngrams"] == 0
    assert run(["eval", str(out), "--text", str(prepared), "-o", str(tmp_path), "-q"]) == 2
    assert "choose a smoothing" in capsys.readouterr().err


def test_texts_are_prepared_on_the_way(tmp_path: Path, capsys):
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs(80, 0)), encoding="utf-8")
    assert run(["classic", "ngram", "--data", str(tmp_path / "text.txt"), "--smoothing", "jelinek_mercer", "-o",
                str(tmp_path / "n"), "--vocab-size", "280", "-q"]) == 0  # fmt: skip
    assert "contexts never seen" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "n").iterdir()} == {
        "ngram.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of word vectors that know the made-up language, made on the command line."""
    path = tmp_path_factory.mktemp("vectors")
    (path / "text.txt").write_text("\n".join(" ".join(words) + "." for words in grid_sentences(4000)))
    settings = ["dim=32", "window=8", "epochs=6", "predict=cbow"]
    assert (
        run(["classic", "word2vec", "--data", str(path / "text.txt"), *settings, "-o", str(path / "model"), "-q"]) == 0
    )
    return path / "model"


def test_word_vectors_answer(vectors: Path, tmp_path: Path, capsys):
    capsys.readouterr()
    near = answer(capsys, "classic", "neighbours", str(vectors), "peru0", "-n", "3")["words"]
    assert len(near) == 3 and all(each["word"].startswith("peru") and each["cosine"] < 1 for each in near)
    found = answer(capsys, "classic", "analogy", str(vectors), "france_coin", "france_song", "peru_coin")["words"]
    assert found[0]["word"] == "peru_song" and len(found) == 5
    assert run(["classic", "analogy", str(vectors), "france_coin", "france_song", "peru_coin", "-n", "1"]) == 0
    assert "peru_song" in capsys.readouterr().out
    text, again = tmp_path / "v.txt", tmp_path / "again"
    assert run(["classic", "export", str(vectors), str(text)]) == 0
    assert len(WordVectors.from_text(text).words) == int(text.read_text().split()[0])
    assert run(["classic", "import", str(text), "-o", str(again)]) == 0
    capsys.readouterr()
    assert answer(capsys, "classic", "neighbours", str(again), "peru0", "-n", "3")["words"] == near


def test_analogies_are_tasks_of_the_same_evaluation(vectors: Path, tmp_path: Path, capsys):
    rows = [{"prompt": f"{a} {b} {c}", "answer": d} for a, b, c, d in grid_questions()[::40]]
    rows.append({"prompt": "never learned words", "answer": "x"})
    (tmp_path / "analogies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    scores = answer(capsys, "eval", str(vectors), "-t", str(tmp_path / "analogies.jsonl"), "-o", str(tmp_path), "-q")
    assert 0.9 <= scores["acc/exact"] <= 1 - 1 / len(rows)
    (tmp_path / "text.txt").write_text("Some text.")
    assert run(["eval", str(vectors), "--text", str(tmp_path / "text.txt"), "-o", str(tmp_path), "-q"]) == 2
    assert "word vectors predict no text" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"prompt": "two words", "answer": "x"}\n')
    assert run(["eval", str(vectors), "-t", str(tmp_path / "bad.jsonl"), "-o", str(tmp_path), "-q"]) == 2
    assert "man king woman" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ngram", "--order", "x", "-o", "new"], "2-5 to choose among"),
        (["ngram", "--order", "9", "-o", "new"], "between 1 and 8"),
        (["ngram", "--smoothing", "kats", "-o", "new"], "did you mean 'katz'"),
        (["ngram", "--smoothing", "katz", "cutof=2", "-o", "new"], "did you mean 'cutoff'"),
        (["ngram", "--smoothing", "katz", "add_k", "k=2", "-o", "new"], "go with one smoothing"),
        (["ngram", "--data", "absent.txt", "-o", "new"], "absent.txt does not exist"),
        (["ngram", "-o", "full"], "not empty"),
        (["ngram"], "output-dir"),
        (["word2vec", "-o", "full"], "not empty"),
        (["word2vec", "epoch=3", "-o", "new"], "did you mean 'epochs'"),
        (["word2vec", "predict=skipgrm", "-o", "new"], "'skipgram'"),
        (["word2vec", "--data", "tiny.txt", "-o", "new"], "lower min_count"),
        (["neighbours", "nowhere", "word"], "no directory"),
        (["neighbours", "full", "word"], "word2vec.safetensors"),
        (["analogy", "nowhere", "a", "b"], "argument"),
        (["export", "full", "v.txt"], "word2vec.safetensors"),
        (["import", "tiny.txt", "-o", "new"], "not word vectors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_exits_2(argv: list[str], message: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "tiny.txt").write_text("A few words.")
    assert run(["classic", *argv]) == 2
    err = capsys.readouterr().err
    assert message in err.replace("\n", " ") and "Traceback" not in err, err
    assert not (tmp_path / "new").exists()


def test_unknown_words_are_met_with_the_nearest(vectors: Path, capsys):
    assert run(["classic", "neighbours", str(vectors), "peru_conn"]) == 2
    assert "did you mean 'peru_coin'" in capsys.readouterr().err


def test_a_tokenizer_of_another_model_is_refused(prepared: Path, tmp_path: Path):
    NGram(NGram.Config(order=2, vocab_size=7)).fit([[1, 2, 3]]).save(tmp_path / "ngram.safetensors")
    assert isinstance(classic.load(tmp_path), classic.CountedText)
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        bits_per_byte(classic.reader(classic.load(tmp_path)), ["text"])
    Tokenizer.load(prepared).save(tmp_path)
    with pytest.raises(UsageError, match="has counted 7 ids"):
        classic.load(tmp_path)
