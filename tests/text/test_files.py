from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.corpus import Corpus, python_corpus
from hanok.text.data.files import find_files, read_text
from hanok.text.data.passage import passages
from hanok.text.data.read import read_conversations, read_documents, read_preferences
from hanok.text.data.split import split_of

TALK = [{"role": "user", "content": "질문"}, {"role": "assistant", "content": "답"}]


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_format_and_encoding_gives_the_same_composed_text(tmp_path: Path) -> None:
    text = "한글 문서\n둘째 줄"
    (tmp_path / "a.txt").write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "b.txt").write_bytes(text.encode("cp949"))
    (tmp_path / "c.txt").write_text(unicodedata.normalize("NFD", text), encoding="utf-8")
    jsonl(tmp_path / "d.jsonl", {"text": unicodedata.normalize("NFD", text)}, {"text": "  "})
    pq.write_table(pa.table({"text": [text, None], "messages": [None, TALK]}), tmp_path / "e.parquet")
    documents = list(read_documents([tmp_path]))
    assert [document.text for document in documents[:5]] == [text] * 5
    assert documents[5].messages == TALK and len(documents) == 6


def test_files_are_found_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.jsonl", "skip.bin"):
        (tmp_path / name).write_text("{}")
    found = find_files([tmp_path / "b.txt", tmp_path, f"{tmp_path}/**/*.jsonl"])
    assert [file.name for file in found] == ["b.txt", "a.txt", "c.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', r"x\.jsonl, line 2: not valid JSON"),
        ("x.jsonl", b'{"text": "a"}\n[1]\n', r"x\.jsonl, line 2: a row must be a JSON object, not list"),
        ("x.jsonl", b'{"txt": "a"}\n', r"x\.jsonl, line 1: no column 'text'.*did you mean 'text'"),
        ("x.jsonl", b'{"text": 3}\n', r"x\.jsonl, line 1: column 'text' must hold a string, not int"),
        (
            "x.jsonl",
            b'\n{"messages": [{"role": "user"}]}\n',
            r"x\.jsonl, line 2: messages\[0\]\.content must be a string",
        ),
        ("x.txt", b"ok\nab\xff\xff\n", r"x\.txt, line 2: byte 3 is neither UTF-8 nor CP949"),
        ("x.txt", "é\n".encode() + b"\xb0\xa1\n", r"x\.txt, line 2"),
        ("x.txt", "caf\u00e9 na\u00efve".encode("latin-1"), r"x\.txt, line 1"),
        ("x.txt", "a".encode("utf-16"), r"x\.txt is UTF-16"),
        ("x.parquet", b"PAR1 not really", r"x\.parquet, after row 0: not a readable parquet"),
        ("x.csv", b"a", r"cannot read '\.csv' files"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=expected):
        list(read_documents([tmp_path / name]))


def test_missing_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(UsageError, match=r"trian\.txt does not exist; did you mean 'train\.txt'"):
        find_files([tmp_path / "trian.txt"])
    with pytest.raises(UsageError, match="matches no"):
        find_files([f"{tmp_path}/*.jsonl"])
    with pytest.raises(UsageError, match="at least one"):
        find_files([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no"):
        find_files([tmp_path / "empty"])


def test_conversations_come_in_many_forms(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "talks.jsonl",
        {"messages": TALK},
        {"prompt": "질문", "completion": "답"},
        {"prompt": TALK[:1], "completion": TALK[1:]},
        {"instruction": "질문", "input": "", "output": "답"},
        {"conversations": [{"from": "human", "value": "질문"}, {"from": "gpt", "value": "답"}]},
    )
    assert read_conversations([file]) == [TALK] * 5
    bad = jsonl(tmp_path / "bad.jsonl", {"conversations": [{"from": "alien", "value": "x"}]})
    with pytest.raises(UsageError, match=r"bad\.jsonl, line 1: a turn of 'conversations' needs 'from'"):
        read_conversations([bad])


def test_preferences_with_and_without_a_prompt(tmp_path: Path) -> None:
    other = [{"role": "assistant", "content": "틀림"}]
    file = jsonl(
        tmp_path / "pairs.jsonl",
        {"prompt": "질문", "chosen": "답", "rejected": "틀림"},
        {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": other},
        {"chosen": TALK, "rejected": [TALK[0], *other]},
    )
    assert read_preferences([file]) == [{"prompt": TALK[:1], "chosen": TALK[1:], "rejected": other}] * 3
    with pytest.raises(UsageError, match="needs the key 'rejected'"):
        read_preferences([jsonl(tmp_path / "half.jsonl", {"chosen": "a"})])
    with pytest.raises(UsageError, match="begin with the same messages"):
        read_preferences([jsonl(tmp_path / "no.jsonl", {"chosen": "a", "rejected": "b"})])


def test_the_corpus_is_read_and_never_imported(tmp_path: Path) -> None:
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text('topics = {"if": "The if statement."}')
    body = (
        'raise SystemExit\nclass A:\n    "About A."\n    def f(self):\n        "About f."\n'
        '        if 1:\n            def g(): "About g."\n'
    )
    (tmp_path / "module.py").write_text('"""About the module."""\n' + body)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "escape.py").write_text('x = "\\d"\n')
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "hidden.py").write_text('"""Tests are not prose."""')
    corpus = python_corpus(min_chars=5, stdlib=tmp_path)
    whole = "About the module.\n\nAbout A.\n\nAbout f.\n\nAbout g."
    assert corpus.documents == ["The if statement.", whole]
    assert corpus.bytes == len("The if statement." + whole)
    (tmp_path / "pydoc_data" / "topics.py").unlink()  # as on slim builds
    assert python_corpus(min_chars=5, stdlib=tmp_path).documents == [whole]


def test_paragraphs_that_repeat_are_kept_once(tmp_path: Path) -> None:
    long = "A paragraph that two modules share, word for word."
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(f'"""Module {name}.\n\nNotes\n\n{long}\n"""')
    first, second = python_corpus(min_chars=5, stdlib=tmp_path).documents
    assert first == f"Module a.\n\nNotes\n\n{long}" and second == "Module b.\n\nNotes"


def test_the_hash_of_a_corpus_knows_its_boundaries() -> None:
    assert Corpus.of(["ab", "c"], "").sha256 != Corpus.of(["a", "bc"], "").sha256
    assert Corpus.of(["ab"], "x").sha256 == Corpus.of(["ab"], "y").sha256


def test_passages_join_to_the_text_and_prefer_large_breaks() -> None:
    text = "".join(f"line {i} of words\n" + ("\n" if i % 7 == 0 else "") for i in range(60)) + "x" * 300
    pieces = list(passages(text, 100))
    assert "".join(pieces) == text and max(map(len, pieces)) <= 100
    assert sum(piece.endswith("\n") for piece in pieces) > 8 and list(passages("", 10)) == []


def test_splits_are_stable_and_of_the_right_size() -> None:
    splits = [split_of(f"key {i}") for i in range(4000)]
    assert splits == [split_of(f"key {i}") for i in range(4000)]
    assert abs(splits.count("valid") - 400) < 80 and abs(splits.count("held_out") - 400) < 80
    assert split_of("한글", {"train": 1.0}) == "train" and read_text.__doc__
