"""The gates that a reviewer would otherwise be: format, lint, types, documented registries.

That no pickle is opened and no text is run as code: tests/train/checkpoint/test_pickle.py.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hanok
from hanok.core.registry import Registry

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hanok"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join
)
def test_tool_is_clean(command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def registries() -> list[Registry[object]]:
    found = []
    for path in sorted(SOURCE.rglob("__init__.py")):
        module = importlib.import_module(".".join(("hanok", *path.relative_to(SOURCE).parts[:-1])))
        found += [
            item for item in vars(module).values() if isinstance(item, Registry) and item.package == module.__name__
        ]
    return found


@pytest.mark.parametrize("registry", registries(), ids=lambda registry: registry.kind)
def test_registered_parts_say_what_they_are(registry: Registry[object]) -> None:
    assert len(registry) > 0
    for entry in registry.describe():
        assert entry.summary.endswith("."), f"{registry.kind} {entry.name} needs a one-sentence docstring"


def test_public_names() -> None:
    for name in hanok.__all__:
        assert getattr(hanok, name).__doc__, f"hanok.{name} has no docstring"
    assert sorted(hanok.__all__) == sorted(set(dir(hanok)) - {"__version__"})
    with pytest.raises(AttributeError, match="no attribute 'Modle'"):
        hanok.Modle  # noqa: B018
