"""Sizes that keep every file readable in one sitting; `python tests/house/test_sizes.py` prints the report."""

from __future__ import annotations

import ast
import statistics
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "hanok"
MEDIAN, LONGEST, FUNCTION, PARAMETERS = 120, 400, 60, 8


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@cache
def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files() -> None:
    sizes = {path: lines(path) for path in SOURCE.rglob("*.py")}
    assert statistics.median(sizes.values()) < MEDIAN
    assert {str(path): size for path, size in sizes.items() if size > LONGEST} == {}


def test_functions() -> None:
    long = {f"{path}:{f.lineno} {f.name}": length(f) for path in SOURCE.rglob("*.py") for f in functions(path)}
    assert {name: size for name, size in long.items() if size > FUNCTION} == {}


def test_parameters() -> None:
    # The keywords of presets and verbs are dials and flags that users turn, not arguments of a computation.
    found = {
        f"{path}:{f.lineno} {f.name}": parameters(f)
        for path in SOURCE.rglob("*.py")
        if path.parent.name not in ("preset", "cli")
        for f in functions(path)
    }
    assert {name: count for name, count in found.items() if count > PARAMETERS} == {}


if __name__ == "__main__":
    report = sorted((lines(path), str(path.relative_to(SOURCE))) for path in SOURCE.rglob("*.py"))
    total = sum(size for size, _ in report)
    print(f"{len(report)} files, {total} lines, median {statistics.median(size for size, _ in report):.0f}")
    for size, name in report[-10:]:
        print(f"{size:5d}  {name}")
