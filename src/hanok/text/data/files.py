"""Finding and decoding input files: globs and folders, UTF-8 with or without a mark, and CP949."""

from __future__ import annotations

import glob
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from hanok.core.errors import UsageError, suggest

SUFFIXES = (".txt", ".jsonl", ".parquet")


def find_files(paths: Sequence[str | Path], *, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Return the files that paths, folders (searched below) and globs name, in order and each once."""
    if not paths:
        raise UsageError("no data: give at least one file, folder or glob")
    found: dict[Path, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_find(str(path), suffixes)))
    return list(found)


def _find(path: str, suffixes: tuple[str, ...]) -> list[Path]:
    if Path(path).is_file():
        if not path.endswith(suffixes):
            raise UsageError(f"{path}: cannot read {Path(path).suffix!r} files (known: {', '.join(suffixes)})")
        return [Path(path)]
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if file.name.endswith(suffixes) and file.is_file())
        if not files:
            raise UsageError(f"{path} holds no {', '.join(suffixes)} file")
        return files
    matches = [Path(match) for match in sorted(glob.glob(path, recursive=True))] if glob.has_magic(path) else []
    files = [file for file in matches if file.is_file() and file.name.endswith(suffixes)]
    if files:
        return files
    if glob.has_magic(path):
        raise UsageError(f"{path} matches no {', '.join(suffixes)} file")
    folder = Path(path).parent
    beside = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    raise UsageError(f"{path} does not exist{suggest(Path(path).name, beside)}")


def read_text(file: Path) -> str:
    """Return a text file's content, composed (NFC), or say where it stops being text."""
    return "".join(line for _, line in read_lines(file))


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line with its end) of a text file, composed (NFC).

    A file is UTF-8 (its mark is dropped) until a line that is not; if nothing but ASCII came before, it is CP949, as
    Korean spreadsheets export it.
    """
    encoding, ascii_only = "utf-8", True
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise UsageError(f"{file} is UTF-16; save it as UTF-8")
            try:
                line = raw.decode(encoding)
            except UnicodeDecodeError as error:
                encoding = "cp949" if ascii_only else encoding
                line = _korean(raw, file, number, error.start) if ascii_only else _refuse(file, number, error.start)
            ascii_only = ascii_only and encoding == "utf-8" and line.isascii()
            yield number, unicodedata.normalize("NFC", line)


def _korean(raw: bytes, file: Path, number: int, start: int) -> str:
    try:
        line = raw.decode("cp949")
    except UnicodeDecodeError:
        return _refuse(file, number, start)
    # Almost any two high bytes are something in CP949; only Hangul says that it is Korean.
    return line if any("가" <= char <= "힣" for char in line) else _refuse(file, number, start)


def _refuse(file: Path, number: int, start: int) -> str:
    raise UsageError(f"{file}, line {number}: byte {start + 1} is neither UTF-8 nor CP949; save the file as UTF-8")
