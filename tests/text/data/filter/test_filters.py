"""Each rule of each family drops the text that breaks it, by its name, and keeps the one just inside the bound."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from hanok.core.errors import UsageError
from hanok.text.data.document import Page
from hanok.text.data.filter import FILTERS, FilterSpec, make_filter

WORDS = re.findall(
    r"\w+",
    "river stone garden window letter summer winter bridge market silver doctor farmer island forest mirror "
    "basket candle hammer needle orange pepper rabbit saddle ticket valley wagon yellow anchor bottle carpet "
    "dinner engine flower guitar helmet insect jacket kitten ladder meadow napkin oyster parrot quiver ribbon "
    "sandal turtle velvet ",
)


def prose(count: int, *, seed: int = 0) -> str:
    """Sentences of ten words, in an order that hardly repeats."""
    draw = random.Random(seed)
    picks = [draw.sample(WORDS, 8) for _ in range(count)]
    return "\n".join(f"The {' '.join(pick[:4])} and {' '.join(pick[4:])}." for pick in picks)


GOOD = "\n".join(
    f"The {a} of the {b} was {c} to see that {d} and {e} went home with {i}."
    for i, (a, b, c, d, e) in enumerate(zip(*[iter(WORDS * 4)] * 5, strict=False))
)
KOREAN = (
    "한옥은 나무와 흙과 돌로 지은 집이다. 그 구조는 여러 기둥과 보를 짜 맞추어 만들며 못을 거의 쓰지 않는다. "
    "마당을 가운데 두고 방이 둘러 있는 것이 흔하다. 겨울에는 온돌로 바닥을 데우고 여름에는 마루에서 바람을 쐰다. "
    "처마가 길어 비를 막을 수 있고 해가 높은 여름에는 그늘이 진다. 이런 집은 땅의 모양을 따라 자리를 잡는다. "
    "또한 문과 창은 종이를 발라 빛이 부드럽게 들어온다. 지역에 따라 모양이 다르며 북쪽에서는 방을 겹으로 두었다."
)


def judge(kind: str, text: str, **settings: object) -> str | None:
    return make_filter({"kind": kind, **settings})(Page("1", text, "test"))


def test_good_text_passes_every_family() -> None:
    for kind in ("gopher_quality", "gopher_repetition", "c4", "fineweb", "language", "length"):
        assert judge(kind, GOOD) is None, kind
    for kind in ("gopher_quality", "gopher_repetition", "fineweb", "language", "length"):
        assert judge(kind, KOREAN) is None, kind


def test_korean_needs_bounds_of_its_own() -> None:
    assert judge("gopher_quality", KOREAN, korean=None) == "short words"
    assert judge("gopher_quality", "가나다 " * 60) == "no stop words"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the be " * 24 + "one", "too few words"),
        ("the be " * 25 + "- . !", "short words"),
        ("the and " * 50 + "abc " * 99_901, "too many words"),
        ("to of " * 30, "short words"),
        ("the and " + "internationalisation " * 60, "long words"),
        (GOOD + " #" * 100, "hash signs"),
        (GOOD + " wait..." * 100, "ellipses"),
        (GOOD + " 1234" * 200, "words without letters"),
        (GOOD.replace("The ", "- The "), "bullets"),
        (GOOD.replace("The ", "• The "), "bullets"),
        (
            "\n".join(f"{line}…" if i % 3 == 0 else line for i, line in enumerate(GOOD.split("\n"))),
            "lines that end in an ellipsis",
        ),
        ("river stone " * 30, "no stop words"),
        ("", "too few words"),
        ("... --- !!!", "too few words"),
    ],
)
def test_gopher_quality(text: str, reason: str | None) -> None:
    assert judge("gopher_quality", text) == reason


def test_gopher_quality_keeps_what_lies_on_the_bound() -> None:
    assert judge("gopher_quality", "the have " * 25) is None  # 50 words
    assert judge("gopher_quality", "the have " * 20 + "12345 " * 10) is None  # 80 % with letters
    assert judge("gopher_quality", "the have " * 20 + "12345 " * 11) == "words without letters"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (prose(20) + "\n\nshort" * 9, "repeated paragraphs"),
        ("\n\n".join([prose(3), prose(3, seed=1), prose(3, seed=2), prose(3)]), "characters in repeated paragraphs"),
        (prose(10) + "\nshort" * 6, "repeated lines"),
        (prose(5) + "\n" + prose(2), "characters in repeated lines"),
        (" ".join(f"{a} new york" for a in WORDS), "most common 2-gram"),
        (" ".join(f"{a} {b} in new york" for a, b in itertools.pairwise(WORDS)), "most common 2-gram"),
        (prose(20).replace("\n", " ") + " " + prose(2), None),
        (prose(10).replace("\n", " ") + " " + prose(3), "repeated 5-grams"),
        ("  \n ", "empty"),
        ("one two three", None),
    ],
)
def test_gopher_repetition(text: str, reason: str | None) -> None:
    assert judge("gopher_repetition", text) == reason


@pytest.mark.parametrize(
    ("text", "reason", "settings"),
    [
        (GOOD + "\nLorem Ipsum dolor", "lorem ipsum", {}),
        (GOOD + "\nint f() { return 1; }", "curly bracket", {}),
        (GOOD + "\nint f() { return 1; }", None, {"brackets": False}),
        (GOOD + "\nA Darn thing.", "bad word", {"bad_words": ("darn",)}),
        (GOOD + "\nA darned thing.", None, {"bad_words": ("darn",)}),
        ("A line of five words.\nAnother line of five words.", "too few sentences", {}),
        ("A line of five words. It has two more. And one.", None, {}),
        ("A line with no end mark\n" * 9, "too few sentences", {}),
        ("A line with no end mark\n" * 9, None, {"terminal_mark": False}),
        ("A line that trails off at last...\n" * 9, "too few sentences", {}),
        ("Please enable JavaScript in your browser.\n" * 9, "too few sentences", {}),
        ("This site uses cookies for your good.\n" * 9, "too few sentences", {}),
        ("Only four words here.\n" * 9, "too few sentences", {}),
        (f"Here is a long word {'x' * 1001}.\n" * 9, "too few sentences", {}),
        ("", None, {"min_sentences": 0}),
    ],
)
def test_c4(text: str, reason: str | None, settings: dict[str, object]) -> None:
    assert judge("c4", text, **settings) == reason


LONG = "This is a line of more than thirty characters"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([f"{LONG} {i}." if i < 4 else f"{LONG} {i}" for i in range(25)], None),
        ([f"{LONG} {i}." if i < 3 else f"{LONG} {i}" for i in range(25)], "lines without a terminal mark"),
        ([f"{LONG} {i}.”" for i in range(25)], None),
        ([f"Item {i}." if i < 67 else f"{LONG} {i}." for i in range(100)], "short lines"),
        ([f"A longer item of words {i:03}." if i < 66 else f"{LONG} {i}." for i in range(100)], None),
        ([f"{LONG} {i % 17}." for i in range(20)], "characters in repeated lines"),
        ([f"{LONG} {i % 19 + 10}." for i in range(20)], None),
        ([f"Onelonglonglonglonglongword {i:03}." for i in range(9)], "line breaks"),
        (["", " "], "empty"),
    ],
)
def test_fineweb(lines: list[str], reason: str | None) -> None:
    assert judge("fineweb", "\n".join(lines)) == reason


@pytest.mark.parametrize(
    ("text", "reason", "settings"),
    [
        (" \n", "too few characters", {}),
        ("abc", None, {}),
        ("abcd", "too many characters", {"max_chars": 3}),
        ("a b c", "too few words", {"min_words": 4}),
        ("a b c", "too many words", {"max_words": 2}),
        ("a b c", None, {"min_words": 3, "max_words": 3}),
    ],
)
def test_length(text: str, reason: str | None, settings: dict[str, object]) -> None:
    assert judge("length", text, **settings) == reason


def test_settings_are_checked() -> None:
    for kind, settings in (
        ("length", {"min_chars": 5, "max_chars": 2}),
        ("language", {"keep": ["english"]}),
        ("perplexity", {"model": "x"}),
        ("perplexity", {"max_bits": 2.0, "min_bits": 3.0}),
        ("c4", {"min_sentence": 3}),
        ("gopher_quality", {"general": {"min_mean_length": 4, "max_mean_length": 3, "stop_words": []}}),
    ):
        with pytest.raises(UsageError):
            make_filter({"kind": kind, **settings})
    with pytest.raises(UsageError, match="did you mean 'fineweb'"):
        make_filter("finweb")
    with pytest.raises(UsageError, match="needs a model"):
        make_filter({"kind": "perplexity", "max_bits": 2.0})


def test_every_filter_is_a_pure_part_with_a_paper() -> None:
    assert {*FILTERS} == {
        "c4", "fineweb", "gopher_quality", "gopher_repetition", "language", "length", "perplexity",
    }  # fmt: skip
    for entry in FILTERS.describe():
        assert entry.paper, entry.name
    assert FilterSpec is not None
