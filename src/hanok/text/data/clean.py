"""Cleaning: the same words in well-formed Unicode, without debris, notices and stray white space."""

from __future__ import annotations

import dataclasses
import html
import html.entities
import re
import unicodedata
from collections import Counter
from typing import Literal

from hanok.core.config import Config
from hanok.text.data.document import Page
from hanok.text.data.filter.c4 import C4, CITATION, bad_line
from hanok.text.data.mojibake import repair

SURROGATE = re.compile("[\ud800-\udfff]")
LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Controls, soft hyphens, byte-order marks, direction marks and tags. The joiners U+200C and U+200D are text: Persian
# needs the one, emoji the other.
DEBRIS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
TRAILING = re.compile(r"(?<![ \t])[ \t]++$", re.MULTILINE)  # tried once in each run of blanks
INNER = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")
BLANK = re.compile(r"\n{3,}")
NOTICE = re.compile(
    r"(?:enable|activate|requires?|disabled?|turn(?:ed)? o(?:n|ff)|without) (?:\w+ )?(?:java ?script|cookies)"
    r"|(?:java ?script|cookies) (?:is|are|must be|has been|seems to be) (?:\w+ )?(?:enabled|disabled|required|turned)"
    r"|(?:uses?|use of|accept(?:ing)?(?: all)?) cookies|cookie (?:policy|settings|notice|preferences)"
    r"|^(?:privacy policy|terms of (?:use|service)|skip to (?:main )?content)\W*$"
    r"|^(?:copyright|©|\(c\)).{0,80}(?:reserved|\d{4})|all rights reserved\W*$"
    r"|무단 ?전재|재배포 ?금지|자바스크립트를 (?:사용|켜|허용|활성)|쿠키(?:를 사용| 사용| 설정| 정책)"
    r"|^(?:이용약관|개인정보 ?처리방침|본문 ?바로가기)\W*$",
    re.IGNORECASE,
)
LONGEST_NOTICE = 200  # characters; a longer line says more than that


class CleanConfig(Config):
    """What is repaired; every kind can be left out.

    `lines` takes lines out: "notices" those that are a site's (scripts, cookies, copyright, short ones only), "c4" all
    that C4 would not keep, which is for English prose, and ruins code, verse and tables.
    """

    mojibake: bool = True
    entities: bool = True
    form: Literal["NFC", "NFKC", "as it is"] = "NFC"
    debris: bool = True
    spaces: bool = True
    inner_spaces: bool = False
    citations: bool = False
    lines: Literal["all", "notices", "c4"] = "notices"


class Clean:
    """An editor that repairs the form of a text and takes out what is not text.

    In order: lone surrogates, mojibake, HTML entities (if the text has no `<`, as ftfy does), line ends, invisible
    debris, Unicode form, white space, Wikipedia's citation marks, lines. Indentation is kept. Cleaning a second time
    changes nothing more, unless a repair has laid bare a new entity.
    """

    def __init__(self, config: CleanConfig | None = None) -> None:
        self.config = config or CleanConfig()

    def __call__(self, page: Page) -> tuple[Page, dict[str, int]]:
        """Return the clean page, and how much of each kind was changed."""
        text, counts = self.edit(page.text)
        return (page if text == page.text else dataclasses.replace(page, text=text)), counts

    def edit(self, text: str) -> tuple[str, dict[str, int]]:
        """Return the clean text, and how much of each kind was changed."""
        counts: Counter[str] = Counter()
        text = self._characters(text, counts)
        text = self._lines(text, counts)
        if self.config.spaces:
            text = self._white(text, counts)
        return text, {kind: count for kind, count in sorted(counts.items()) if count}

    def _characters(self, text: str, counts: Counter[str]) -> str:
        config = self.config
        if not text.isascii():
            if found := SURROGATE.findall(text):  # halves of a pair are joined, lone ones become U+FFFD
                counts["surrogates"] += len(found)
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            if config.mojibake:
                text, counts["mojibake"] = repair(text)
        if config.entities and "&" in text and "<" not in text:
            known = sum(_sign(found) != found.group() for found in ENTITY.finditer(text))
            text, counts["entities"] = (ENTITY.sub(_sign, text) if known else text), known
        text, counts["line_ends"] = LINE_END.subn("\n", text)
        if config.debris:
            text, counts["debris"] = DEBRIS.subn("", text)
        if config.spaces and not text.isascii():
            text, counts["spaces"] = SPACE.subn(" ", text)
        if config.form != "as it is" and not unicodedata.is_normalized(config.form, text):
            text = unicodedata.normalize(config.form, text)
            counts["form"] += 1
        return text

    def _lines(self, text: str, counts: Counter[str]) -> str:
        if self.config.citations:
            text, counts["citations"] = CITATION.subn("", text)
        if self.config.lines == "all":
            return text
        lines = text.split("\n")
        kept = [line for line in lines if not line.strip() or not self._unwanted(line)]
        counts["lines"] += len(lines) - len(kept)
        return "\n".join(kept)

    def _unwanted(self, line: str) -> bool:
        if self.config.lines == "c4":
            return bad_line(line, _C4) is not None
        return len(line) <= LONGEST_NOTICE and NOTICE.search(line.strip()) is not None

    def _white(self, text: str, counts: Counter[str]) -> str:
        text, counts["trailing"] = TRAILING.subn("", text)
        if self.config.inner_spaces:
            text, counts["inner_spaces"] = INNER.subn(" ", text)
        text, counts["blank_lines"] = BLANK.subn("\n\n", text)
        return text.strip("\n").rstrip()


def _sign(entity: re.Match[str]) -> str:
    """Return what an HTML entity stands for, itself if nothing."""
    name = entity.group()[1:]
    return html.unescape(entity.group()) if name[0] == "#" else html.entities.html5.get(name, entity.group())


_C4 = C4.Config()
