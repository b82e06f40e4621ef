"""The container: every value type is read, and every lie is refused by name."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.gguf import cursor, layout
from hanok.model.gguf.cursor import Strings
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.writer import header

F32 = 0
ONE = ("a", (4,), F32, 0, struct.pack("<4f", 1, 2, 3, 4))


def _open(tmp_path: Path, data: bytes) -> GGUF:
    file = tmp_path / "x.gguf"
    file.write_bytes(data)
    return GGUF.open(file)


@pytest.mark.parametrize("version", [2, 3])
def test_every_value_type_is_read(tmp_path: Path, craft: Any, text: Any, version: int) -> None:
    numbers = {0: ("<B", 200), 1: ("<b", -5), 2: ("<H", 60000), 3: ("<h", -9), 4: ("<I", 1 << 31), 5: ("<i", -7)}
    numbers |= {6: ("<f", 0.5), 10: ("<Q", 1 << 63), 11: ("<q", -(1 << 62)), 12: ("<d", 0.1)}
    entries = [(f"n{kind}", kind, struct.pack(code, value)) for kind, (code, value) in numbers.items()]
    entries += [("yes", 7, b"\1"), ("word", 8, text("한옥")), ("bits", 9, struct.pack("<IQ", 7, 3) + b"\1\0\1")]
    entries += [("list", 9, struct.pack("<IQ3h", 3, 3, -1, 0, 1)), ("none", 9, struct.pack("<IQ", 8, 0))]
    entries += [("words", 9, struct.pack("<IQ", 8, 3) + text("a") + text("") + text("é"))]
    inner = struct.pack("<IQ2I", 4, 2, 5, 6) + struct.pack("<IQ", 8, 1) + text("deep")
    entries += [("nested", 9, struct.pack("<IQ", 9, 2) + inner)]
    with _open(tmp_path, craft(entries, [ONE], version=version)) as file:
        found = dict(file.metadata)
        for kind, (_, value) in numbers.items():
            assert found[f"n{kind}"] == value, kind
        assert found["yes"] and found["word"] == "한옥"
        assert list(found["bits"]) == [True, False, True] and list(found["list"]) == [-1, 0, 1]
        assert isinstance(found["words"], Strings) and list(found["words"]) == ["a", "", "é"]
        assert found["words"][-1] == "é" and found["words"][1:] == ["", "é"] and not len(found["none"])
        assert list(found["nested"][0]) == [5, 6] and list(found["nested"][1]) == ["deep"]
        assert torch.equal(file.read("a"), torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_what_the_writer_writes_is_what_the_reader_reads(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {"i": np.uint32(7), "f": np.float32(1e-6), "b": np.bool_(True), "s": "x"}
    metadata |= {"a": np.array([1.5, 2.5]), "w": ["p", "q"], "n": [np.array([1], np.int32), ["z"]], "e": np.zeros(0)}
    with _open(tmp_path, header(metadata, {})) as file:
        assert file.metadata.keys() == metadata.keys()
        assert [type(file.metadata[key]) for key in "ifbs"] == [np.uint32, np.float32, np.bool_, str]
        assert file.real("f") == 1e-6 and list(file.metadata["w"]) == ["p", "q"]
        assert list(file.metadata["a"]) == [1.5, 2.5] and file.metadata["n"][1][0] == "z"


def test_tensors_are_where_the_alignment_says(tmp_path: Path, craft: Any) -> None:
    two = ("b", (2, 3), F32, 64, struct.pack("<6f", *range(6)))
    entry = ("general.alignment", 4, struct.pack("<I", 64))
    with _open(tmp_path, craft([entry], [two, ONE], alignment=64)) as file:
        assert file.tensors["b"].shape == (3, 2)
        assert file.read("b").tolist() == [[0, 1], [2, 3], [4, 5]]
        assert file.read("b", torch.bfloat16).dtype == torch.bfloat16


def _u32(key: str, value: int) -> tuple[str, int, bytes]:
    return key, 4, struct.pack("<I", value)


def _array(kind: int, count: int, data: bytes = b"") -> tuple[str, int, bytes]:
    return "k", 9, struct.pack("<IQ", kind, count) + data


def _tensor(sizes: tuple[int, ...] = (4,), kind: int = F32, offset: int = 0, data: bytes = bytes(16)) -> Any:
    return "t", sizes, kind, offset, data


NEST = b"".join(struct.pack("<IQ", 9, 1) for _ in range(6)) + struct.pack("<IQ", 4, 0)
HUGE = (1 << 64) - 1
BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "magic": (([],), {"magic": b"GGML"}, "letters GGUF"),
    "version 1": (([],), {"version": 1}, "version is 1"),
    "version 4": (([],), {"version": 4}, "version is 4"),
    "big-endian": (([],), {"version": 3 << 24}, "big-endian"),
    "tensor count": (([], [ONE]), {"counts": (HUGE, 0)}, "tensors"),
    "entry count": (([], [ONE]), {"counts": (1, 1 << 63)}, "metadata entries"),
    "entry count beyond the file": (([], [ONE]), {"counts": (1, 60000)}, "left in the file"),
    "one entry too many": (([], [ONE]), {"counts": (1, 1)}, "0 dimensions"),
    "duplicate key": (([_u32("k", 1), _u32("k", 2)],), {}, "'k' appears twice"),
    "empty key": (([_u32("", 1)],), {}, "empty"),
    "value type": (([("k", 13, b"")],), {}, "unknown value type 13"),
    "element type": (([_array(99, 1)],), {}, "unknown value type 99"),
    "truth value": (([("k", 7, b"\2")],), {}, "truth value of 2"),
    "array length": (([_array(0, 1 << 62)],), {}, "elements"),
    "array length that wraps": (([_array(10, 1 << 61)],), {}, "elements"),
    "array of strings": (([_array(8, 1 << 27, bytes(8))],), {}, "left in the file"),
    "string length": (([("k", 8, struct.pack("<Q", HUGE))],), {}, "claims 18,446,744,073,709,551,615"),
    "string length in a list": (([_array(8, 1, struct.pack("<Q", 1 << 40))],), {}, "left in the file"),
    "not UTF-8": (([("k", 8, struct.pack("<Q", 2) + b"\xff\xfe")],), {}, "not UTF-8"),
    "nesting": (([("k", 9, NEST)],), {}, "deep"),
    "alignment zero": (([_u32("general.alignment", 0)],), {}, "power of two"),
    "alignment 24": (([_u32("general.alignment", 24)],), {}, "power of two"),
    "alignment huge": (([_u32("general.alignment", 1 << 31)],), {}, "power of two"),
    "alignment a word": (([("general.alignment", 8, struct.pack("<Q", 1) + b"x")],), {}, "power of two"),
    "duplicate tensor": (([], [ONE, ("a", (4,), F32, 32, bytes(16))]), {}, "'a' appears twice"),
    "nameless tensor": (([], [("", (4,), F32, 0, bytes(16))]), {}, "no name"),
    "no dimensions": (([], [_tensor(())]), {}, "0 dimensions"),
    "five dimensions": (([], [_tensor((1, 1, 1, 1, 4))]), {}, "5 dimensions"),
    "zero size": (([], [_tensor((4, 0))]), {}, "impossible shape"),
    "sizes that wrap": (([], [_tensor((1 << 32, 1 << 32, 4))]), {}, "impossible shape"),
    "sizes beyond the file": (([], [_tensor((1 << 40,))]), {}, "of a file of"),
    "unknown tensor type": (([], [_tensor(kind=77)]), {}, "type 77"),
    "a type that is not read": (([], [_tensor(kind=10)]), {}, "Q2_K"),
    "ragged blocks": (([], [_tensor((48,), 8)]), {}, "packs 32"),
    "offset unaligned": (([], [_tensor(offset=8)]), {}, "no multiple of 32"),
    "offset beyond": (([], [_tensor(offset=1 << 40, data=b"")]), {}, "hole"),
    "offset that wraps": (([], [_tensor(offset=HUGE - 31, data=b"")]), {}, "hole"),
    "overlap": (([], [ONE, ("b", (4,), F32, 0, b"")]), {}, "overlap"),
    "partial overlap": (([], [("a", (16,), F32, 0, bytes(64)), ("b", (4,), F32, 32, b"")]), {}, "overlap"),
    "hole": (([], [ONE, ("b", (4,), F32, 96, bytes(16))]), {}, "hole"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_lie_is_refused_by_name(tmp_path: Path, craft: Callable[..., bytes], case: str) -> None:
    arguments, odd, message = BAD[case]
    with pytest.raises(UsageError, match=message) as error:
        _open(tmp_path, craft(*arguments, **odd))
    assert "x.gguf" in str(error.value) and len(str(error.value)) < 1000


def test_bytes_behind_the_last_tensor_are_refused(tmp_path: Path, craft: Any) -> None:
    whole = craft([], [ONE])
    for sound in (whole, whole + bytes(16)):  # with and without padding up to the alignment
        _open(tmp_path, sound).file.close()
    with pytest.raises(UsageError, match="33 bytes follow"):
        _open(tmp_path, whole + bytes(33))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, craft: Any, text: Any) -> None:
    whole = craft([_u32("n", 1), ("s", 8, text("word")), _array(8, 2, text("a") + text("b"))], [ONE])
    _open(tmp_path, whole).file.close()
    for length in range(len(whole)):
        with pytest.raises(UsageError):
            _open(tmp_path, whole[:length])


def test_a_file_that_shrinks_is_an_error_and_not_a_crash(tmp_path: Path, craft: Any) -> None:
    with _open(tmp_path, craft([], [("a", (1 << 18,), F32, 0, bytes(1 << 20))])) as file:
        os.truncate(tmp_path / "x.gguf", 1 << 19)
        with pytest.raises(UsageError, match="shrank"):
            file.read("a")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")  # opening it would wait for a writer
    for path in (tmp_path / "pipe.gguf", tmp_path, tmp_path / "absent.gguf", Path("/dev/zero")):
        with pytest.raises(UsageError, match=path.name):
            GGUF.open(path)


@pytest.mark.parametrize(("limit", "message"), [("MAX_STRINGS", "strings"), ("MAX_ENTRIES", "arrays")])
def test_limits_count_over_the_whole_file(
    tmp_path: Path, craft: Any, text: Any, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    lists = [(f"k{i}", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b")) for i in range(3)]
    _open(tmp_path, craft(lists)).file.close()
    monkeypatch.setattr(cursor, limit, 5 if limit == "MAX_STRINGS" else 2)
    with pytest.raises(UsageError, match=message):
        _open(tmp_path, craft(lists))


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path: Path, craft: Any) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(craft([_array(0, layout.MAX_HEADER)]))
    os.truncate(file, 1 << 40)
    with pytest.raises(UsageError, match="header"):
        GGUF.open(file)


def test_without_the_length_check_a_lie_is_no_longer_a_clean_error(
    tmp_path: Path, craft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = craft([_array(10, 1 << 60)])
    monkeypatch.setattr(cursor, "MAX_HEADER", 1 << 62)
    with pytest.raises(UsageError, match="left in the file"):
        _open(tmp_path, lie)
    monkeypatch.setattr(cursor.Cursor, "require", lambda self, count, what: None)
    with pytest.raises((MemoryError, OverflowError)):
        _open(tmp_path, lie)
