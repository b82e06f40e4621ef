"""The READMEs are run: every snippet, every command; and the two languages keep step."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hanok.cli import execute as run

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- no-test[^>]*-->\n)?```(\w+)\n(.*?)```", re.S)


def blocks(file: str, language: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return [code for skipped, name, code in BLOCK.findall(text) if name == language and not skipped]


@pytest.mark.filterwarnings("default")
def test_python_snippets_run_in_order() -> None:
    namespace: dict[str, object] = {}
    snippets = blocks("README.md", "python")
    assert len(snippets) >= 3
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)


@pytest.mark.parametrize("file", ["README.md", "README.ko.md"])
def test_commands_run(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hanok.text.data.corpus._docstrings", lambda *_: iter(()))  # a part of the text is enough
    for block in blocks(file, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == "hanok", line
                assert run(words[1:]) == 0, line


def test_the_languages_keep_step() -> None:
    english, korean = ((ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "README.ko.md"))
    verbs = re.compile(r"^\| `hanok [^|]*\|", re.M)
    assert verbs.findall(english) == verbs.findall(korean)
    assert re.findall(r"!\[[^\]]*\]\(([^)]*)\)", english) == re.findall(r"!\[[^\]]*\]\(([^)]*)\)", korean)
    for name in ("./quickstart", "./test", "--minutes 2", "--data"):
        assert name in english and name in korean


def test_linked_files_exist() -> None:
    for file in ("README.md", "README.ko.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / file).read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{file} links to {target}"
