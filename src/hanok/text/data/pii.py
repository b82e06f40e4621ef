"""Personal data: addresses and numbers of people, found by their shape and check digits and replaced by a tag."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Literal

from pydantic import field_validator

from hanok.core.config import Config
from hanok.text.data.document import Page

Kind = Literal["email", "resident_number", "card", "account", "phone", "ip"]
Check = Callable[[re.Match[str]], bool]
KINDS: tuple[Kind, ...] = ("email", "resident_number", "card", "account", "phone", "ip")  # in the order of looking

# Boundaries are ASCII (re.A), for Korean particles stand right behind what they belong to: `a@b.kr로`, `전화02-...`.
EMAIL = re.compile(
    r"(?<![\w.%+\-/@])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9@]|\.[A-Za-z0-9]|:[\w/])",
    re.A,
)
# Reserved for examples (RFC 2606), and what only looks like a domain: files and code.
NO_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost|py|js|ts|png|jpg|svg)$", re.I)
RESIDENT = re.compile(r"(?<![\w.\-])(\d{6})( ?[\-–] ?| ?)(\d{7})(?![\w\-]|\.\d)", re.A)
CARD = re.compile(
    r"(?<![\w.\-+])(?:\d{4}([ \-]?)\d{4}\1\d{4}\1\d{1,7}|\d{4}([ \-]?)\d{6}\2\d{4,5})(?![\w\-]|\.\d)", re.A
)
ACCOUNT = re.compile(
    r"(?:계좌(?:\s?번호)?|account (?:number|no\.?)|acct\.?(?: no\.?)?)\s{0,2}(?:[:은는이]|is)?\s{0,2}"
    r"(?:[가-힣A-Za-z]{1,8}(?:은행|뱅크|bank)\s{0,2})?(\d(?:\d|-(?=\d)){8,19})(?!\w|\.\d)",
    re.A | re.I,
)
PHONE = re.compile(
    r"(?<![\w.+\-/=])(?:"
    r"(?:\+82[ .\-]?|82[.\-])\(?0?\)?(?:1[016789]|2|[3-6]\d|70)\)?[ .\-]?\d{3,4}[ .\-]?\d{4}"  # Korea from abroad
    r"|01[016789]([ .\-]?)\d{3,4}\1\d{4}"  # Korean mobile
    r"|\(?0(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50\d)(?:\) ?|[.\-])\d{3,4}[.\-]\d{4}"  # Korean area codes
    r"|\+1[ .\-]?\(?[2-9]\d{2}\)?[ .\-]?[2-9]\d{2}[ .\-]?\d{4}"
    r"|(?:1[ .\-]?)?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.\-])[2-9]\d{2}[ .\-]\d{4}"  # North America
    r"|\+(?:[2-79]\d{0,2}|8[0134-9]\d?)(?:[ \-]\(?\d{1,4}\)?){2,5}"  # any other, as E.164 is written
    r"|\+(?:[2-79]|8[0134-9])\d{9,13}"  # and in one piece
    r")(?![\w\-]|\.\d)",
    re.A,
)
IP4 = re.compile(r"(?:(?<![\w.\-:/])|(?<=://))(?:\d{1,3}\.){3}\d{1,3}(?![\w\-]|\.\d)", re.A)
IP6 = re.compile(r"(?<![\w.:\-/])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])", re.A)
VERSION = re.compile(
    r"(?:(?:\bv|\bver\.?|versions?|버전|release|\brel\.?|build|\brev\.?|revision|firmware|driver|patch|update|upgraded?"
    r"|section|chapter|§|\boid)(?: (?:number|no\.?|is|to|from))?\s{0,2}[:=]{0,2}\s{0,2}[\"'(]?|[=~<>!]=|[~^@])\s{0,2}$",
    re.I,
)
WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
BEFORE = 24  # characters that are looked at for the word "version"


class PiiConfig(Config):
    """Which kinds are replaced, and by what; `strict_resident` asks for the check digit, which numbers given out since
    October 2020 no longer have.
    """

    kinds: tuple[Kind, ...] = KINDS
    tag: str = "<{kind}>"
    strict_resident: bool = False

    @field_validator("tag")
    @classmethod
    def _plain(cls, tag: str) -> str:
        try:
            made = tag.format(kind="email")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"tag may hold {{kind}} and nothing else in braces ({error!r})") from None
        if any(char.isdigit() for char in made) or "@" in made:
            raise ValueError("tag must hold neither digits nor @, or it would be found again")
        return tag


class Pii:
    """An editor that replaces personal data by tags.

    Found by shape: email addresses (not those of RFC 2606's examples), Korean and North American phone numbers and
    those written with `+`, public IP addresses (private ones lead to nobody), Korean resident registration numbers
    (a date that exists, and a century digit that fits it), payment cards (a known issuer's prefix and length, and the
    check digit of Luhn, ISO/IEC 7812-1), bank accounts behind the word for them. FineWeb replaces the first and the
    public IP addresses (Penedo et al. 2024, section 3.7). Names and street addresses have no shape, and stay.

    Four numbers with dots behind a word for a version, an operator or a package's name are taken for a version.
    """

    def __init__(self, config: PiiConfig | None = None) -> None:
        self.config = config or PiiConfig()

    def __call__(self, page: Page) -> tuple[Page, dict[str, int]]:
        """Return the page without personal data, and how many of each kind were replaced."""
        text, counts = self.edit(page.text)
        return (page if text == page.text else dataclasses.replace(page, text=text)), counts

    def edit(self, text: str) -> tuple[str, dict[str, int]]:
        """Return the text without personal data, and how many of each kind were replaced."""
        counts: dict[str, int] = {}
        for kind in KINDS:
            if kind in self.config.kinds:
                text = self._replace(text, kind, counts)
        return text, counts

    def _replace(self, text: str, kind: Kind, counts: dict[str, int]) -> str:
        tag = self.config.tag.format(kind=kind)

        for pattern, check in self._rules(kind):

            def exchange(found: re.Match[str], check: Check = check) -> str:
                if not check(found):
                    return found.group()
                counts[kind] = counts.get(kind, 0) + 1
                # What stands before an account is the word that it is known by.
                return (found.group()[: found.start(1) - found.start()] if kind == "account" else "") + tag

            text = pattern.sub(exchange, text)
        return text

    def _rules(self, kind: Kind) -> list[tuple[re.Pattern[str], Check]]:
        if kind == "email":
            return [(EMAIL, lambda found: not NO_DOMAIN.search(found.group().rpartition("@")[2]))]
        if kind == "resident_number":
            return [(RESIDENT, lambda found: is_resident_number(found[1] + found[3], strict=self._strict(found)))]
        if kind == "card":
            return [(CARD, lambda found: is_card(found.group()))]
        if kind == "account":
            return [(ACCOUNT, lambda found: 9 <= sum(map(str.isdigit, found[1])) <= 16)]
        if kind == "phone":
            return [(PHONE, lambda found: 8 <= sum(map(str.isdigit, found.group())) <= 15)]
        return [(IP4, is_public_ip4), (IP6, lambda found: is_public(found.group()))]

    def _strict(self, found: re.Match[str]) -> bool:
        # Thirteen digits in a row are more often something else: there the check digit has to speak for them.
        return self.config.strict_resident or not found[2]


def is_resident_number(digits: str, *, strict: bool = False) -> bool:
    """Return whether 13 digits have the shape of a Korean resident (or alien) registration number.

    YYMMDD, then a digit for century and sex (9, 0: 1800s; 1, 2, 5, 6: 1900s; 3, 4, 7, 8: 2000s; 5 to 8: aliens). The
    check digit is (11 - sum(d_i w_i) mod 11) mod 10 with w = 2..9, 2..5 (for aliens 13 instead of 11 in the front);
    `strict` asks for it.
    """
    century = {"9": 1800, "0": 1800, "1": 1900, "2": 1900, "5": 1900, "6": 1900}.get(digits[6], 2000)
    try:
        date(century + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return False
    if not strict:
        return True
    total = sum(int(digit) * weight for digit, weight in zip(digits, WEIGHTS, strict=False))
    return (13 if digits[6] in "5678" else 11) - total % 11 in (int(digits[12]), int(digits[12]) + 10)


def is_card(number: str) -> bool:
    """Return whether a number has the prefix and length of an issuer and Luhn's check digit."""
    digits = re.sub(r"\D", "", number)
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    issued = (
        (digits[0] == "4" and size in (13, 16))  # Visa
        or (size == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))  # Mastercard
        or (size == 15 and two in (34, 37))  # American Express
        or (size in (16, 19) and (four == 6011 or two == 65 or 6440 <= four <= 6499))  # Discover
        or (size in (16, 19) and 3528 <= four <= 3589)  # JCB
        or (size == 14 and (two in (36, 38, 39) or 3000 <= four <= 3059))  # Diners Club
        or (size in (16, 17, 18, 19) and two == 62)  # UnionPay
        or (size == 16 and digits[0] == "9" and digits != number)  # for use in Korea only: if written in groups
    )
    return issued and len(set(digits)) > 1 and luhn(digits)


def luhn(digits: str) -> bool:
    """Return whether the sum of the digits, every second from the right doubled and its digits added, ends in 0."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        total += digit if place % 2 == 0 else sum(divmod(2 * digit, 10))
    return total % 10 == 0


def is_public(address: str) -> bool:
    """Return whether an IP address is valid and reachable from everywhere."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def is_public_ip4(found: re.Match[str]) -> bool:
    """Return whether a match of four numbers is a public address rather than a version."""
    before = found.string[max(found.start() - BEFORE, 0) : found.start()]
    return is_public(found.group()) and not VERSION.search(before)
