from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.byte_ngram import ByteNGram, passages

TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "안녕하세요 여러분"]


def plain_probability(texts: list[str], order: int, context: bytes, byte: int) -> float:
    """The formula of the docstring, word for word."""
    if order == 0:
        return 1 / 256
    history = context[len(context) - (order - 1) :]
    after: Counter[int] = Counter()
    for text in texts:
        raw = b"\0" * (order - 1) + text.encode()
        for place in range(order - 1, len(raw)):
            if raw[place - order + 1 : place] == history:
                after[raw[place]] += 1
    lower = plain_probability(texts, order - 1, context, byte)
    if not after:
        return lower
    return (after[byte] + len(after) * lower) / (after.total() + len(after))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_equals_witten_bell_by_its_formula(order: int) -> None:
    model, text = ByteNGram.train(TEXTS, order=order), "the dog 안녕"
    raw = b"\0" * (order - 1) + text.encode()
    bits = [-np.log2(plain_probability(TEXTS, order, raw[:place], raw[place])) for place in range(order - 1, len(raw))]
    assert model.bits_per_byte(text) == pytest.approx(float(np.mean(bits)), rel=1e-12)


def test_probabilities_sum_to_one() -> None:
    assert sum(plain_probability(TEXTS, 3, b"\0\0th", byte) for byte in range(256)) == pytest.approx(1)
    model = ByteNGram.train(TEXTS, order=3)
    total = 0.0
    for byte in range(128):  # one-byte texts: p(byte | start)
        total += 2.0 ** -model.bits_per_byte(chr(byte))
    assert 0.4 < total <= 1


def test_knows_what_it_has_read_and_survives_saving(tmp_path: Path) -> None:
    model = ByteNGram.train(TEXTS * 20)
    assert model.bits_per_byte(TEXTS[0]) < 1.5 < 6 < model.bits_per_byte("qwxz 9#7@ vjk")
    model.save(tmp_path / "model.safetensors")
    again = ByteNGram.load(tmp_path / "model.safetensors")
    assert again.bits_per_byte("the mat sat") == model.bits_per_byte("the mat sat")
    low, high = model.percentiles([TEXTS[0], "qwxz"], [0, 1])
    assert low == model.bits_per_byte(TEXTS[0]) and high == model.bits_per_byte("qwxz")
    assert model.bits_per_byte("") == 8


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to 7"):
        ByteNGram(8)
    with pytest.raises(UsageError, match="at least one byte"):
        ByteNGram.train([""])
    (tmp_path / "x").write_bytes(b"\x08" * 40)
    for path in (tmp_path / "x", tmp_path / "absent"):
        with pytest.raises(UsageError, match="not a saved byte n-gram"):
            ByteNGram.load(path)


def test_passages_are_the_text_cut_at_lines() -> None:
    text = "".join(f"line {i}\n" for i in range(40)) + "x" * 250
    found = list(passages([text, " \n"], size=100))
    assert all(0 < len(part) <= 100 for part in found) and len(found) == 7
    assert "".join(part.replace("\n", "") for part in found) == text.replace("\n", "")
    assert all(part.startswith("line") or set(part) == {"x"} for part in found)
