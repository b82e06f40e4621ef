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


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the English one: the Korean one has none but the two scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hanok.text.data.corpus._docstrings", lambda *_: iter(()))  # a part of the text is enough
    lines = [shlex.split(line, comments=True) for block in blocks("README.md", "sh") for line in block.splitlines()]
    commands = [words for words in lines if words]
    assert len(commands) >= 3 and not blocks("README.ko.md", "sh")
    for words in commands:
        assert words[0] == "hanok", words
        assert run(words[1:]) == 0, words


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
