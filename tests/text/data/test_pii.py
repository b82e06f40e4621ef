from __future__ import annotations

import random

import pytest

from hanok.core.errors import UsageError
from hanok.text.data.document import Page
from hanok.text.data.pii import Pii, PiiConfig, is_card, is_resident_number, luhn

PERSONAL = {
    "email": (
        "Write to jane.doe+news@mail.uni-bonn.de, please.",
        "문의는 hong.gildong@naver.com으로 보내 주세요",
        "메일은kim@snu.ac.kr입니다",
        "<a href='mailto:first_last@sub.company.co.uk'>",
    ),
    "phone": (
        "연락처 010-1234-5678로 전화",
        "전화01098765432번",
        "010 9876 5432",
        "사무실 02-312-4567, 또는",
        "(031) 123-4567",
        "070-8888-9999",
        "+82-10-1234-5678",
        "+82 2 312 4567",
        "Call (212) 555-0187 today",
        "415-555-2671",
        "+1 650 253 0000",
        "+44 20 7946 0958",
        "+4915112345678",
        "+81-3-1234-5678",
    ),
    "resident_number": (
        "주민등록번호 900101-1234567 입니다",
        "850228-2123456",
        "010230-3123456" if is_resident_number("0102303123456") else "010228-3123456",
        "외국인 920315-5123456",
        "주민번호: 880808 - 1234567",
    ),
    "card": (
        "4111 1111 1111 1111",
        "카드 5500-0000-0000-0004 로",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "3530 1113 3330 0000",
    ),
    "ip": ("from 203.0.114.9 port 22", "server 8.8.8.8.", "http://93.184.216.34/x", "2001:4860:4860::8888"),
    "account": ("계좌번호: 국민은행 123456-04-567890", "입금 계좌는 110-234-567890", "account number 000123456789"),
}
HARMLESS = (
    "version 1.2.3.4 was released",
    "numpy==1.26.4.1, torch>=2.1.0.0",
    "버전 10.0.19041.1 업데이트",
    "v8.8.8.8 and lib-4.3.2.1.tar.gz and pkg@5.4.3.2",
    "section 4.3.2.1 says",
    "firmware: 12.8.4.2",
    'version = "3.4.5.6"',
    "192.168.0.1 and 10.1.2.3 and 127.0.0.1 and 999.1.1.1",
    "pi = 3.14159265358979323846, e = +2.718281828459045",
    "x = 4111111111111112; y = 0.4111111111111111; z = 1234567812345678",
    "git clone git@github.com:user/repo.git",
    "@property\ndef a(self): return self@other",
    "user@example.com is for examples, and me@localhost",
    "2024-01-02 03:04:05 +0900, 2024.11.21, 12:34:56.789",
    "ISBN 978-3-16-148410-0, ISSN 1234-5678",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "for i in range(100000, 200000): a[i] = 0x1F4D5E6F",
    "std::vector<int> v; a::b::c; namespace fe80::x",
    "order 901301-1234567 and 900230-1234567",  # months and days that are none
    "id 20240101-1234567, build 900101-12345678",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "@@ -12,7 +45,9 @@ def f(x):",
    "1,234,567,890 won, 3.5e+10, 1e-5, -1234567890",
    "call 1588-1234",  # a company's line
    "2001:db8::1 and 12:34:56",
)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PERSONAL.items() for text in texts])
def test_personal_data_is_found_whole_and_by_its_kind(kind: str, text: str) -> None:
    edited, counts = Pii().edit(text)
    assert counts == {kind: 1}
    assert f"<{kind}>" in edited
    assert sum(char.isdigit() for char in edited) <= 2 and "@" not in edited  # port 22


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert Pii().edit(text) == (text, {})


def test_a_page_keeps_all_else_and_a_second_time_finds_nothing() -> None:
    page = Page("1", "a@b.org 010-1234-5678 8.8.4.4", "web", {"url": "u"})
    clean, counts = Pii()(page)
    assert clean == Page("1", "<email> <phone> <ip>", "web", {"url": "u"})
    assert counts == {"email": 1, "phone": 1, "ip": 1}
    again, none = Pii()(clean)
    assert again is clean and none == {}


def test_kinds_and_tags_can_be_chosen() -> None:
    pii = Pii(PiiConfig(kinds=("email",), tag="[{kind}]"))
    assert pii.edit("a@b.org 010-1234-5678")[0] == "[email] 010-1234-5678"
    for tag in ("{name}", "{", "a@b.org", "1234"):
        with pytest.raises(UsageError, match="tag"):
            PiiConfig.parse({"tag": tag})
    with pytest.raises(UsageError, match="kinds"):
        PiiConfig.parse({"kinds": ["name"]})


def check_digit(front: str) -> str:
    return str(
        (11 - sum(int(d) * w for d, w in zip(front, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True)) % 11) % 10
    )


def test_resident_numbers_in_one_piece_need_their_check_digit() -> None:
    right = "900101123456" + check_digit("900101123456")
    wrong = right[:-1] + str((int(right[-1]) + 1) % 10)
    assert Pii().edit(right)[1] == {"resident_number": 1} and Pii().edit(wrong)[1] == {}
    assert Pii().edit(f"{wrong[:6]}-{wrong[6:]}")[1] == {"resident_number": 1}  # since 2020 there is none
    strict = Pii(PiiConfig(strict_resident=True))
    assert strict.edit(f"{wrong[:6]}-{wrong[6:]}")[1] == {}
    assert is_resident_number("0002291123456") is False and is_resident_number(
        "0002293123456"
    )  # 1900 had no 29 February
    alien = "920315512345"
    digit = (13 - sum(int(d) * w for d, w in zip(alien, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True)) % 11) % 10
    assert is_resident_number(alien + str(digit), strict=True)


def test_luhn_finds_every_wrong_digit() -> None:
    assert luhn("79927398713") and is_card("4111111111111111")
    assert not any(luhn(f"7992739871{digit}") for digit in "012456789")
    assert not is_card("1111111111111117") and not is_card("0000000000000000")


def test_random_numbers_are_rarely_taken_for_cards() -> None:
    rng = random.Random(0)
    found = sum(Pii().edit(f"n = {rng.randrange(10**15, 10**16)};")[1].get("card", 0) for _ in range(4000))
    assert found / 4000 < 0.035  # a quarter of them has an issuer's prefix, a tenth of those the check digit
