"""What `hanok tokenizer eval` says, counted again by hand."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.cli import execute
from hanok.core.errors import UsageError
from hanok.report.tokenizer import page
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.fertility import ENGLISH, KOREAN
from hanok.text.tokenizer.languages import ARTICLE
from hanok.text.tokenizer.measure import by_language, cost, premiums, sweep
from hanok.text.tokenizer.strips import cells, count, strip

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return Tokenizer.train([*ENGLISH, *KOREAN] * 4, vocab_size=420, kind="wordpiece")


def test_costs_are_counts(tokenizer: Tokenizer) -> None:
    texts = ["The floor is warm.", "바닥이 따뜻하다"]
    found = cost(tokenizer, texts)
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    assert found.tokens == tokens and found.same and found.unknown == 0 and found.nfd_ratio == 1
    assert found.bytes_per_token == sum(len(text.encode()) for text in texts) / tokens
    assert found.tokens_per_word == tokens / 6


def test_unknown_words_and_decomposed_text_show(wordpiece: Tokenizer, tokenizer: Tokenizer) -> None:
    found = cost(wordpiece, ["The floor 🙂 👪"])
    assert found.unknown == 2 / found.tokens and not found.same
    raw = Tokenizer.from_json(json.dumps({**json.loads(tokenizer.to_json()), "normalizer": None}), {}, where=Path("x"))
    assert cost(raw, [KOREAN[0]]).nfd_ratio > 2 > cost(tokenizer, [KOREAN[0]]).nfd_ratio  # the control composes nothing


def test_languages_say_the_same_and_english_is_the_measure(tokenizer: Tokenizer) -> None:
    assert len(ARTICLE) >= 12 and all(unicodedata.is_normalized("NFC", text) for text in ARTICLE.values())
    found = by_language(tokenizer)
    extra = premiums(found)
    assert extra["English"] == 1 and extra["Hindi"] > extra["German"] > 1
    assert extra["Korean"] == len(tokenizer.encode(ARTICLE["Korean"])) / len(tokenizer.encode(ARTICLE["English"]))


def test_a_sweep_measures_what_it_has_not_seen() -> None:
    texts = [f"{line} {n}" for n in range(5) for line in (*ENGLISH, *KOREAN)]
    found = list(sweep(texts, [300, 500], ["bbpe", "wordpiece"]))
    assert [(size.kind, size.asked) for size in found] == [(k, n) for k in ("bbpe", "wordpiece") for n in (300, 500)]
    assert found[0].cost.bytes_per_token < found[1].cost.bytes_per_token
    assert (
        cost(Tokenizer.train([t for i, t in enumerate(texts) if i % 10], vocab_size=300), texts[::10]) == found[0].cost
    )
    with pytest.raises(UsageError, match="two documents"):
        list(sweep(["one"], [300], ["bbpe"]))


@settings(max_examples=80, deadline=None)
@given(TEXT)
def test_cells_are_the_text_and_hold_every_token(tokenizer: Tokenizer, wordpiece: Tokenizer, text: str) -> None:
    for one in (tokenizer, wordpiece):
        parts = cells(one, text)
        assert "".join(cell.text for cell in parts) == text
        assert [id for cell in parts for id in cell.ids] == one.encode(text)


def test_strips_show_what_is_cut_dropped_and_unknown(tokenizer: Tokenizer, wordpiece: Tokenizer) -> None:
    assert strip(cells(tokenizer, "世\n"), colour=False) == "世₃|⏎\n|"
    assert strip(cells(wordpiece, "warm 🙂"), colour=False).endswith("{ }[🙂]")
    coloured = strip(cells(tokenizer, "warm\n\x1bfloor"), colour=True)
    # Every colour ends on its line, and an escape character of the text never reaches the terminal.
    assert all(line.count("\033[0m") * 2 == line.count("\033[") for line in coloured.split("\n"))
    assert "\033floor" not in coloured and "␛" in coloured
    assert count(cells(tokenizer, "warm floor")) == len(tokenizer.encode("warm floor"))


def test_the_page_fetches_nothing_and_escapes_text(tokenizer: Tokenizer) -> None:
    sizes = list(sweep([*ENGLISH, *KOREAN], [300, 400], ["bbpe"]))
    text = "<script>alert(1)</script> 世"
    made = page(tokenizer, by_language(tokenizer), {"mine": text}, name="a<b", kind="bbpe", sizes=sizes)
    assert "<script" not in made and "http" not in made.replace("http-equiv", "") and "a&lt;b" in made
    assert "default-src 'none'" in made and "<polyline" in made and 'title="' in made and "<sub>3</sub>" in made
    assert made.count("<tr>") == 1 + len(ARTICLE) + 1 + len(sizes)


def test_the_command(tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer.save(tmp_path / "t")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in (*ENGLISH, *KOREAN)))
    words = ["tokenizer", "eval", str(tmp_path / "t"), str(tmp_path / "a.jsonl"), "--sweep", "300", "350"]
    words += ["--kinds", "bbpe", "--html", str(tmp_path / "p.html")]
    assert execute([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["languages"]["Korean"]["premium"] > 0 and [size["asked"] for size in said["sweep"]] == [300, 350]
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    assert execute([*words, "--text", "바닥 floor"]) == 0
    shown = capsys.readouterr().out
    assert "Vietnamese" in shown and "바₃|닥₂|" in shown and "comes back" in shown
    assert execute(["tokenizer", "eval", str(tmp_path / "t"), "--kinds", "bbpe"]) == 2
    assert execute(["tokenizer", "eval", str(tmp_path / "t"), "--sweep", "300", "--kinds", "bppe"]) == 2
    assert "did you mean 'bbpe'" in capsys.readouterr().err
