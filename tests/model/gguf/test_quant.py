"""Block formats: values that llama.cpp's C code and the gguf package give for the same bytes, bit for bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.model.gguf.quant import FORMATS, Format

# Where the half-precision scales are, the first three numbers and the last of two blocks, and the sha256 of all,
# as ggml's dequantize_row_* functions computed them (the gguf package 0.19.0 agrees in every bit).
GOLDEN: dict[str, tuple[tuple[int, ...], list[float], float, str]] = {
    "Q4_0": ((0,), [-0.111328125, 0.07421875, 0.259765625], -0.259765625, "781ff1f8d437f71e"),
    "Q4_1": ((0, 2), [0.59375, 0.185546875, 0.37109375], 0.408203125, "73cdcef39b095d75"),
    "Q5_0": ((0,), [0.333984375, -0.07421875, 0.111328125], 0.1484375, "9b164cbab09fb47d"),
    "Q5_1": ((0, 2), [0.7421875, 0.927734375, 1.11328125], 1.11328125, "99bb01bce8222528"),
    "Q8_0": ((0,), [3.154296875, 4.52734375, -3.599609375], -2.59765625, "c170b092cf0dd41d"),
    "Q4_K": ((0, 2), [10.76171875, -1.892578125, 3.859375], 15.4375, "7efa79a7a3b39173"),
    "Q5_K": ((0, 2), [29.16796875, -1.892578125, 22.265625], 9.42578125, "0e08a897af65c355"),
    "Q6_K": ((208,), [-53.103515625, 62.9375, 21.634765625], -59.375, "8bef5fde805515b0"),
}
BY_NAME = {format.name: format for format in FORMATS.values()}


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_are_those_of_ggml(name: str) -> None:
    scales, first, last, digest = GOLDEN[name]
    format = BY_NAME[name]
    raw = (np.arange(2 * format.size) * 37 + 11).astype(np.uint8).reshape(2, format.size)
    for at in scales:
        raw[:, at : at + 2] = np.array([0.0371], "<f2").view(np.uint8)
    found = format.decode(raw).reshape(-1)
    assert found[:3].tolist() == first
    assert found[-1] == last
    assert hashlib.sha256(found.astype("<f4").tobytes()).hexdigest().startswith(digest)


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_any_bytes_give_the_numbers_of_the_gguf_package(format: Format) -> None:
    gguf = pytest.importorskip("gguf")
    raw = np.random.default_rng(0).integers(0, 256, (500, format.size), dtype=np.uint8)
    kind = gguf.GGMLQuantizationType(format.id)
    assert gguf.GGML_QUANT_SIZES[kind] == (format.block, format.size)
    with np.errstate(all="ignore"):
        ours = format.decode(raw)
        theirs = gguf.quants.dequantize(raw.reshape(-1) if format.block == 1 else raw, kind).reshape(ours.shape)
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def _hard_rows() -> np.ndarray:
    """Return rows in which rounding goes wrong if it can: halves, all magnitudes, zeros, subnormals."""
    rng = np.random.default_rng(1)
    halves = (rng.integers(-254, 255, (500, 32)) / 2).astype(np.float32)
    halves[:, 0] = 127
    bits = rng.integers(0, 1 << 32, (4000, 32), dtype=np.uint32).view(np.float32)
    wide = np.where(np.isfinite(bits) & (np.abs(bits) < 8e6), bits, np.float32(1.5))
    rows = [halves, wide, wide * np.float32(1e-30), np.zeros((2, 32), np.float32), rng.normal(size=(500, 32))]
    return np.concatenate(rows).astype(np.float32)


def test_q8_0_rounds_as_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    rows = _hard_rows()
    with np.errstate(all="ignore"):
        theirs = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0)
    encode = BY_NAME["Q8_0"].encode
    assert encode is not None
    np.testing.assert_array_equal(encode(rows), theirs)


def test_q8_0_rounds_halves_away_from_zero() -> None:
    encode = BY_NAME["Q8_0"].encode
    assert encode is not None
    row = np.zeros((1, 32), np.float32)
    row[0, :6] = [127, 0.5, -0.5, 1.5, 2.5, np.nextafter(np.float32(0.5), np.float32(0))]
    assert encode(row)[0, 2:8].view(np.int8).tolist() == [127, 1, -1, 2, 3, 0]


def test_q8_0_is_off_by_half_a_step_at_most() -> None:
    format = BY_NAME["Q8_0"]
    assert format.encode is not None
    rows = np.random.default_rng(2).normal(size=(300, 32)).astype(np.float32)
    back = format.decode(format.encode(rows))
    step = np.abs(rows).max(axis=1, keepdims=True) / 127
    assert (np.abs(back - rows) <= step * (0.5 + 127 * 2**-11)).all()  # and the scale is rounded to 11 bits


@pytest.mark.parametrize("name", ["F32", "F16", "Q8_0"])
def test_what_was_read_is_written_again_in_the_same_bytes(name: str) -> None:
    format = BY_NAME[name]
    assert format.encode is not None
    once = format.encode(np.random.default_rng(3).normal(size=(50, format.block)).astype(np.float32))
    raw = once.reshape(-1, format.size)
    np.testing.assert_array_equal(format.encode(format.decode(raw)).reshape(-1, format.size), raw)


@pytest.mark.parametrize(("name", "weight"), [("F16", 7e4), ("Q8_0", 9e6), ("Q8_0", np.nan), ("Q8_0", np.inf)])
def test_a_number_that_a_format_cannot_hold_is_refused(name: str, weight: float) -> None:
    format = BY_NAME[name]
    assert format.encode is not None
    with pytest.raises(UsageError, match=name):
        format.encode(np.full((1, format.block), weight, np.float32))
