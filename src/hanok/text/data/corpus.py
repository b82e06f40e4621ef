"""A corpus that is on every machine: the prose that ships with Python, read with `ast` and never imported."""

from __future__ import annotations

import ast
import hashlib
import os
import sysconfig
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SKIP = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"})
SHORT = 30  # characters of a paragraph that may repeat, such as a heading


@dataclass(frozen=True)
class Corpus:
    """Documents with what identifies them: scores compare only within one sha256."""

    documents: list[str]
    source: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, documents: list[str], source: str) -> Corpus:
        """Count and hash documents."""
        digest, size = hashlib.sha256(), 0
        for text in documents:
            raw = text.encode()
            digest.update(len(raw).to_bytes(8, "little") + raw)
            size += len(raw)
        return cls(documents, source, size, digest.hexdigest())


def python_corpus(*, min_chars: int = 80, stdlib: Path | None = None) -> Corpus:
    """Return the topics of `help()` and the docstrings of the standard library, one document per topic or module.

    Slim builds ship without the topics; the docstrings are then all there is.
    """
    root = Path(sysconfig.get_path("stdlib")) if stdlib is None else stdlib
    documents = [*_topics(root / "pydoc_data" / "topics.py"), *_docstrings(root, min_chars)]
    clean = [unicodedata.normalize("NFC", text).strip() for text in documents]
    kept = [text for text in _without_repeats(clean) if len(text) >= min_chars]
    return Corpus.of(kept, f"python-{sysconfig.get_python_version()} documentation")


def _without_repeats(documents: Iterable[str]) -> Iterator[str]:
    """Drop paragraphs that an earlier document has: whole topics stand in others, and a validation split would leak."""
    seen: set[str] = set()
    for text in documents:
        kept = []
        for paragraph in text.split("\n\n"):
            key = " ".join(paragraph.split())
            if len(key) < SHORT or key not in seen:
                kept.append(paragraph)
            seen.add(key)
        yield "\n\n".join(kept)


def _topics(file: Path) -> Iterator[str]:
    tree = _parse(file)
    for node in tree.body if tree else []:
        value = getattr(node, "value", None)
        if isinstance(value, ast.Dict):
            for item in value.values:
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    yield item.value


def _docstrings(root: Path, min_chars: int) -> Iterator[str]:
    for file in _sources(root):
        if tree := _parse(file):
            texts = [text for node in _owners(tree) if (text := ast.get_docstring(node)) and len(text) >= min_chars]
            if texts:
                yield "\n\n".join(dict.fromkeys(texts))


def _sources(root: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in SKIP)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _owners(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the module and every class and function in it, in the order of the source."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        # Definitions stand in statements only; looking into expressions would be slow and find nothing.
        for block in ("finalbody", "orelse", "handlers", "cases", "body"):
            inner = getattr(node, block, ())
            todo += reversed(inner if isinstance(inner, list) else ())


def _parse(file: Path) -> ast.Module | None:
    """Return a file's syntax tree; a file that is absent or meant to be broken has none."""
    try:
        source = file.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            return ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None
