"""`hanok report` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanok.cli import execute as run

from .conftest import Maker


def test_report_verb(whole: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(whole.root), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert Path(said["report"]) == whole.root / "report.html" and "grpo" in said["stages"]
    assert run(["report", str(whole.root), "-o", str(tmp_path / "else"), "--title", "Mine"]) == 0
    assert "<title>Mine</title>" in (tmp_path / "else" / "report.html").read_text(encoding="utf-8")


def test_one_artifact_stays_as_it_was_hashed(whole: Maker) -> None:
    path = whole.made["sft"].path
    before = sorted(path.iterdir())
    assert run(["report", str(path)]) == 0
    assert sorted(path.iterdir()) == before
    assert (path.parent / f"{path.name}-report" / "report.html").is_file()


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == 2
    assert "nothing to report" in capsys.readouterr().err
