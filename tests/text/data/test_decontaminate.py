"""Planted leaks are found in any wrapping; other text is left alone; and a plain search for lines would not do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hanok.core.errors import UsageError
from hanok.text.data.decontaminate import Index

topics = pytest.importorskip("pydoc_data.topics")

RNG = random.Random(0)
NUM_ITEMS = 200


def paragraphs() -> list[str]:
    """The prose of Python's help topics, each paragraph once: whole topics stand in others."""
    found: dict[str, str] = {}
    for text in topics.topics.values():
        for paragraph in re.split(r"\n\s*\n", text):
            if 10 <= len(paragraph.split()) <= 120 and sum(map(str.isalpha, paragraph)) > 0.5 * len(paragraph):
                found.setdefault(" ".join(re.findall(r"\w+", paragraph.lower())), paragraph)
    return list(found.values())


def shingles(text: str, n: int = 6) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def split() -> tuple[list[str], list[str]]:
    """Items, and paragraphs that have no six words in a row in common with any of them."""
    shuffled = paragraphs()
    random.Random(1).shuffle(shuffled)
    items = shuffled[:NUM_ITEMS]
    known = set().union(*map(shingles, items))
    return items, [text for text in shuffled[NUM_ITEMS:] if not shingles(text) & known]


ITEMS, OTHERS = split()
FILLER = " ".join(OTHERS).split()


def rewrap(text: str) -> str:
    words = text.split()
    return "\n".join(" ".join(words[i : i + 8]) for i in range(0, len(words), 8))


def dilute(text: str) -> str:
    size = 4 * len(text.split())
    at = RNG.randrange(len(FILLER) - 2 * size)
    return " ".join([*FILLER[at : at + size], *text.split(), *FILLER[at + size : at + 2 * size]])


def quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in rewrap(text).split("\n"))


FORMS: dict[str, Callable[[str], str]] = {
    "verbatim": str,
    "re-wrapped to 8 words": rewrap,
    "diluted 8 times": dilute,
    "upper case": str.upper,
    "no punctuation": lambda text: re.sub(r"[^\w\s]|_", "", text),
    "other punctuation": lambda text: re.sub(r"[^\w\s]|_", " – ", text).title(),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "quoted, diluted, upper case": lambda text: quote(dilute(text)).upper(),
}


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.build(ITEMS)


@pytest.mark.parametrize("form", FORMS)
def test_planted_leaks_are_found(index: Index, form: str) -> None:
    found = [any(leak.item == str(i) for leak in index.find(FORMS[form](item))) for i, item in enumerate(ITEMS)]
    assert sum(found) / len(ITEMS) >= 0.95
    assert len(index.unprotected) <= 0.02 * len(ITEMS)


def test_other_text_is_left_alone(index: Index) -> None:
    assert len(OTHERS) > 900
    flagged = [text for text in OTHERS if index.find(text)]
    assert len(flagged) <= 0.001 * len(OTHERS), flagged[:3]


def test_the_same_words_in_another_order_are_left_alone(index: Index) -> None:
    draw, words = random.Random(2), " ".join(ITEMS).split()
    assert not any(index.find(" ".join(draw.choices(words, k=80))) for _ in range(500))


def test_a_search_for_ngrams_line_by_line_would_miss_what_is_wrapped() -> None:
    known = set().union(*(shingles(item, 13) for item in ITEMS))
    by_line = [any(shingles(line, 13) & known for line in rewrap(item).split("\n")) for item in ITEMS]
    assert sum(by_line) < 0.05 * len(ITEMS)  # words such as `a.b.c.d` are several


def test_a_share_over_the_document_would_miss_what_is_diluted() -> None:
    found = 0
    for item in ITEMS:
        text = dilute(item)
        found += len(shingles(text, 13) & shingles(item, 13)) >= 0.5 * len(shingles(text, 13))
    assert found == 0


def test_korean_leaks_are_found_with_other_spacing() -> None:
    item = "다음 중 조선 시대의 과학 기술에 대한 설명으로 옳지 않은 것은 무엇인가? 모두 고르시오."
    index = Index.build([item], ids=["kmmlu/1"])
    text = f"문제를 풀어 보자. {item.replace(' ', '', 3).replace('?', '')} 정답은 둘이다."
    (leak,) = index.find(text)
    assert leak.item == "kmmlu/1" and leak.excerpt.startswith("다음중조선시대")
    assert index.find("조선 시대의 과학 기술은 높은 수준이었다. 다음 중 옳지 않은 것은 없다.") == []


NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")


def test_what_is_too_short_or_a_template_is_said_to_be_unprotected() -> None:
    template = "Read the following question with care and choose the right answer from the four options below."
    items = [f"{template} Number {word}." for word in NUMBERS]
    index = Index.build([*items, "What is two plus two?"])
    assert "11" in index.unprotected
    assert index.find(template) == []
    assert len(Index.build(items[:2]).find(template)) == 2
    assert Index.build(items[:2], ignore=[template]).find(template) == []


def test_items_that_are_there_twice_are_no_template() -> None:
    item = ITEMS[0]
    index = Index.build([item] * 20)
    assert [leak.item for leak in index.find(f"so: {item}")] == ["0"]
    assert index.unprotected == [str(number) for number in range(1, 20)]


def test_the_most_complete_leak_comes_first_and_a_share_can_be_asked_for() -> None:
    long = sorted(ITEMS, key=len)[-2:]
    first, second = long[0], " ".join(long[1].split()[:25])
    index = Index.build([long[1], first], ids=["cut", "whole"])
    leaks = index.find(f"{first} {second}")
    assert [leak.item for leak in leaks] == ["whole", "cut"]
    assert leaks[0].share == 1 and 0 < leaks[1].share < 1
    assert [leak.item for leak in index.find(f"{first} {second}", min_share=0.99)] == ["whole"]


def test_saving_keeps_every_answer(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index.safetensors")
    again = Index.load(tmp_path / "index.safetensors")
    for text in (*ITEMS[:40], *OTHERS[:10]):
        assert again.find(text) == index.find(text)
    assert again.unprotected == index.unprotected
    (tmp_path / "broken").write_bytes(b"no")
    with pytest.raises(UsageError, match="not a saved decontamination index"):
        Index.load(tmp_path / "broken")


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="n >= 8"):
        Index.build(["x"], n=5)
    with pytest.raises(UsageError, match="2 texts cannot have 1 ids"):
        Index.build(["x", "y"], ids=["1"])
    empty = Index.build([])
    assert empty.find("anything at all") == [] and empty.unprotected == []
