"""Benchmarks are run by hand: what they take from the package must be there all the same."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def missing(source: str) -> list[str]:
    """Return what a program imports from hanok and does not find."""
    gone = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hanok":
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names if not hasattr(module, alias.name)):
                try:
                    importlib.import_module(f"{node.module}.{name}")
                except ImportError:
                    gone.append(f"{node.module}.{name}")
    return gone


def test_benchmarks_find_what_they_import() -> None:
    files = sorted(FOLDER.glob("*.py"))
    assert len(files) > 5
    for file in files:
        assert missing(file.read_text(encoding="utf-8")) == [], file.name


def test_the_check_sees_what_is_gone() -> None:
    assert missing("def f():\n    from hanok.train.loop import train, nowhere\n") == ["hanok.train.loop.nowhere"]
