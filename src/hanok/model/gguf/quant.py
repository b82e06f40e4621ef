"""The block formats of GGUF tensors: how many numbers share how many bytes, and how the numbers come out of them.

Every decoder takes blocks (n, bytes) uint8 and returns (n, numbers) float32; names and layouts are those of ggml.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Format:
    """`block` numbers are stored in `size` bytes; `encode` is there for the formats that we write."""

    id: int
    name: str
    block: int
    size: int
    decode: Callable[[Bytes], Floats]
    encode: Callable[[Floats], Bytes] | None = None

    def nbytes(self, count: int) -> int:
        """Return the bytes of a whole number of blocks that hold `count` numbers."""
        return count // self.block * self.size


def _half(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Return the low halves of all bytes, then the high ones (n, 2 * bytes)."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _half(blocks, 2)


def _fifth_bit(blocks: Bytes, at: int) -> Bytes:
    """Return the nibbles behind a 32-bit word, each with its bit of the word as bit 4."""
    bits = np.unpackbits(np.ascontiguousarray(blocks[:, at : at + 4]), axis=1, bitorder="little")
    bits <<= 4
    bits |= _nibbles(blocks[:, at + 4 :])
    return bits


def _q5_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_fifth_bit(blocks, 2).astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _fifth_bit(blocks, 4).astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Return d * scale and dmin * min (n, 8, 1) of a K block's eight parts, 6 bits each in 12 bytes.

    Bytes 0-3 and 4-7 hold parts 0-3 in their low six bits; parts 4-7 have four bits in bytes 8-11 and two on top of
    the others.
    """
    packed = blocks[:, 4:16]
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scale = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=1).astype(np.float32)
    least = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=1).astype(np.float32)
    return (_half(blocks, 0) * scale)[:, :, None], (_half(blocks, 2) * least)[:, :, None]


def _q4_k(blocks: Bytes) -> Floats:
    scale, least = _scales(blocks)
    q = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return (scale * q.astype(np.float32) - least).reshape(-1, 256)


def _q5_k(blocks: Bytes) -> Floats:
    scale, least = _scales(blocks)
    part = np.arange(8, dtype=np.uint8)[:, None]  # bit i of byte j belongs to number j of part i
    high = (blocks[:, None, 16:48] >> part) & 1
    q = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32) | (high << 4)
    return (scale * q.astype(np.float32) - least).reshape(-1, 256)


def _q6_k(blocks: Bytes) -> Floats:
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shift = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shift) & 3
    q = (low | (high << 4)).astype(np.float32) - 32
    scale = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return (scale[:, :, None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return _half(blocks, 0)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _to_f32(x: Floats) -> Bytes:
    return x.astype("<f4").view(np.uint8)


def _to_f16(x: Floats) -> Bytes:
    with np.errstate(over="ignore"):
        half = x.astype("<f2")
    if not np.array_equal(np.isinf(half), np.isinf(x)):
        raise UsageError(f"a weight of {np.abs(x[np.isfinite(x)]).max():.3g} is beyond 65504, the most that F16 holds")
    return half.view(np.uint8)


def _to_q8_0(x: Floats) -> Bytes:
    """Round to the nearest of 255 levels, halves away from zero; the levels are of the scale before it became F16."""
    if not np.isfinite(x).all():
        raise UsageError("a weight is not a finite number, which Q8_0 cannot hold")
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
        half = scale.astype("<f2")
    if np.isinf(half).any():
        raise UsageError(f"a weight of {np.abs(x).max():.3g} is beyond {65504 * 127:,}, the most that Q8_0 holds")
    steps = x * np.where(np.isfinite(inverse), inverse, np.float32(0))
    whole = np.trunc(steps)
    q = whole + np.sign(steps) * (np.abs(steps - whole) >= 0.5)
    return np.concatenate([half.view(np.uint8), q.astype(np.int8).view(np.uint8)], axis=1)


F32 = Format(0, "F32", 1, 4, _f32, _to_f32)
F16 = Format(1, "F16", 1, 2, _f16, _to_f16)
Q8_0 = Format(8, "Q8_0", 32, 34, _q8_0, _to_q8_0)
FORMATS: dict[int, Format] = {
    format.id: format
    for format in (
        F32,
        F16,
        Format(2, "Q4_0", 32, 18, _q4_0),
        Format(3, "Q4_1", 32, 20, _q4_1),
        Format(6, "Q5_0", 32, 22, _q5_0),
        Format(7, "Q5_1", 32, 24, _q5_1),
        Q8_0,
        Format(12, "Q4_K", 256, 144, _q4_k),
        Format(13, "Q5_K", 256, 176, _q5_k),
        Format(14, "Q6_K", 256, 210, _q6_k),
        Format(30, "BF16", 1, 2, _bf16),
    )
}
