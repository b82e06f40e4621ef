"""A stage that is killed while it ends: nothing is lost, and what it needs to go on is never half gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_stage_killed_at_any_moment_of_its_end_is_finished_by_the_next_life(tmp_path: Path) -> None:
    """It either runs again from whole checkpoints, or has nothing left to do."""
    program = [sys.executable, "-m", "tests.core.stage_lives", str(tmp_path)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    *killed, whole = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(killed) > 20 and all(found["killed"] for found in killed) and not whole["killed"]
    for found in (*killed, whole):
        assert found["left"] == ["artifact.json", "config.yaml", "runs.txt"]
        assert found["files"] == ["config.yaml", "runs.txt"]
    assert {found["runs"] for found in killed} == {1, 2}
