"""The house's order: imports run downwards, also those hidden inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "hanok"
FLOORS = (
    {"core"},
    {"ops"},
    {"nn"},
    {"model", "text", "classic"},
    {"train", "engine"},
    {"align", "compress", "eval", "scaling"},
    {"serve", "rag", "agent", "guard", "report"},
    {"recipes"},
    {"cli"},  # above the recipes, whose verb it is
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def violations(room: str, text: str) -> list[str]:
    found = []
    for module in imports(parsed(text)):
        parts = module.split(".")
        if parts[0] != "hanok" or len(parts) < 2 or parts[1] not in FLOOR or parts[1] == room:
            continue
        if FLOOR[parts[1]] >= FLOOR[room]:
            found.append(f"{room} (floor {FLOOR[room]}) imports {module} (floor {FLOOR[parts[1]]})")
    return found


def files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


def test_imports_run_downwards() -> None:
    for path in files():
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        assert room in FLOOR, f"{path} stands on no floor: add its room to the plan"
        assert violations(room, path.read_text(encoding="utf-8")) == [], path


def test_the_check_sees_hidden_and_sideways_imports() -> None:
    hidden = "def f():\n    from hanok.serve import app\n"
    assert violations("engine", hidden) and violations("nn", "import hanok.model.model")
    assert violations("train", "from hanok.engine.engine import Engine"), "neighbours on one floor are strangers"
    assert not violations("serve", hidden.replace("serve", "engine"))


def test_no_relative_imports() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
