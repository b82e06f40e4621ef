"""SIGKILL at random moments while checkpoints are being saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).with_name("kills.py")


def killed(folder: Path, arm: str, tries: int) -> dict[str, int]:
    command = [sys.executable, str(KILLS), str(folder), arm, str(tries), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("tries", [4, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_kill_during_a_save_loses_nothing(tries: int, tmp_path: Path) -> None:
    found = killed(tmp_path / "run", "atomic", tries)
    assert (found["unreadable"], found["lost"], found["unswept"]) == (0, 0, 0)
    assert found["leftovers"] <= 2  # the unfinished new one, and an old one half removed
    assert found["during"] > tries // 3  # most kills do fall into a save


@pytest.mark.slow
@pytest.mark.parametrize("tries", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_control_overwriting_in_place_does_not_survive_kills(tries: int, tmp_path: Path) -> None:
    found = killed(tmp_path / "run", "overwrite", tries)
    assert found["unreadable"] + found["lost"] > tries // 4
