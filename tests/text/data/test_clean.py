from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.core.errors import UsageError
from hanok.text.data.clean import Clean, CleanConfig
from hanok.text.data.document import Page
from hanok.text.data.mojibake import repair

RIGHT = (
    "안녕하세요, 여러분",
    "naïve café — “quoted”",
    "It’s",
    "Größe: 5 µm",
    "привет",
    "日本語テキスト",
    "10 °C, £5",
    "😀 ok",
)
MEANT = (
    "SÃO PAULO e PARÁ",
    "déjà vu – “à la carte”…",
    "Ångström © 2024 «Âme»",
    "L’été à Évian…",
    "½ × ¼ ± ¾",
    "naïve café",
    "Âge: 5",
    "Ä”, Ö“ und Ü’",
    "smörgåsbord™",
    "ÃO",
    "très bien…”",
)


@pytest.mark.parametrize("text", RIGHT)
@pytest.mark.parametrize("codec", ["cp1252", "latin-1"])
def test_mojibake_comes_back(text: str, codec: str) -> None:
    try:
        broken = text.encode().decode(codec)
    except UnicodeDecodeError:
        undefined = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # what Windows does with them
        broken = "".join(chr(byte) if byte in undefined else bytes([byte]).decode(codec) for byte in text.encode())
    assert broken != text
    assert repair(broken)[0] == text
    assert repair(text) == (text, 0)


def test_mojibake_of_mojibake_comes_back() -> None:
    assert repair("한옥".encode().decode("latin-1").encode().decode("latin-1")) == ("한옥", 2)


@pytest.mark.parametrize("text", MEANT)
def test_letters_that_are_meant_stay(text: str) -> None:
    assert repair(text) == (text, 0)


@pytest.mark.parametrize(
    ("dirty", "clean", "counts"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", {"line_ends": 3}),
        ("a\x00b\u200bc\ufeffd\xade", "abcde", {"debris": 4}),
        ("a\xa0b\u3000c", "a b c", {"spaces": 2}),
        ("a  \n\n\n\nb\t\n", "a\n\nb", {"trailing": 2, "blank_lines": 1}),
        ("\u1112\u1161", "하", {"form": 1}),
        ("fish &amp; chips &#44032; &notanentity;", "fish & chips 가 &notanentity;", {"entities": 2}),
        ("<b>fish &amp; chips</b>", "<b>fish &amp; chips</b>", {}),
        ("\ud83d\ude00 \ud800x", "😀 \ufffdx", {"surrogates": 3}),
        ("    indented\n\tcode", "    indented\n\tcode", {}),
        ("Text.\nPlease enable JavaScript to view this.\nMore.", "Text.\nMore.", {"lines": 1}),
        ("기사 본문.\n무단 전재 및 재배포 금지", "기사 본문.", {"lines": 1}),
        ("© 2024 Example Inc. All rights reserved.\nText", "Text", {"lines": 1}),
        ("JavaScript is a language. Cookies are sweet.", "JavaScript is a language. Cookies are sweet.", {}),
        ("쿠키를 구웠다.", "쿠키를 구웠다.", {}),
        ("می‌خواهم 👨‍👩‍👧", "می‌خواهم 👨‍👩‍👧", {}),
        ("", "", {}),
    ],
)
def test_each_kind_is_repaired_and_counted(dirty: str, clean: str, counts: dict[str, int]) -> None:
    assert Clean().edit(dirty) == (clean, counts)


def test_what_is_switched_off_stays() -> None:
    off = CleanConfig(mojibake=False, entities=False, form="as it is", debris=False, spaces=False, lines="all")
    text = "cafÃ© &amp; \u200b\xa0\u1112\u1161  \n\n\n\nAll rights reserved"
    assert Clean(off).edit(text) == (text, {})
    assert Clean(CleanConfig(inner_spaces=True, citations=True)).edit("a   b[12].")[0] == "a b."
    with pytest.raises(UsageError, match="notices"):
        CleanConfig.parse({"lines": "none"})


def test_lines_as_in_c4() -> None:
    text = "A line of five words.\nMenu\nHome | About | Contact us all\n\nWe all like JavaScript so much."
    assert Clean(CleanConfig(lines="c4")).edit(text)[0] == "A line of five words."


def test_a_clean_page_is_handed_back_as_it_is() -> None:
    page = Page("1", "Clean text.", "web")
    assert Clean()(page)[0] is page
    assert Clean()(Page("1", "a\r\nb", "web", {"k": 1}))[0] == Page("1", "a\nb", "web", {"k": 1})


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet=st.sampled_from("aÃ©â€™Âì\u0095ˆ \t\n\r\u200b\xa0가하\u0301&<.;"), max_size=30))
def test_cleaning_twice_changes_nothing_more_and_never_fails(text: str) -> None:
    clean = Clean(CleanConfig(entities=False, mojibake=False))
    once = clean.edit(text)[0]
    assert clean.edit(once) == (once, {})
    Clean().edit(text)[0].encode()
