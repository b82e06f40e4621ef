"""A rank that is lost is named, and the job ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.train.parallel.watchdog import _process_state, _raised_in, doing

LOST = Path(__file__).with_name("lost.py")


def lose(how: str, seconds: float, tmp_path: Path) -> tuple[dict[str, Any], str]:
    command = [sys.executable, str(LOST), how, str(seconds), str(tmp_path / "mark")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how,word", [("kill", "was killed"), ("freeze", "is frozen"), ("stuck", "is stuck")])
def test_a_lost_rank_is_named_and_all_end_within_half_a_minute(how: str, word: str, tmp_path: Path) -> None:
    found, said = lose(how, 15, tmp_path)
    assert found["codes"] == [1, 1, -9, 1] and found["seconds"] < 30, (found, said)
    assert "rank 2 (pid" in said and word in said and "all_reduce" in said, said


@pytest.mark.slow
def test_without_a_watchdog_the_others_wait_for_a_frozen_rank(tmp_path: Path) -> None:
    found, _ = lose("freeze", 0, tmp_path)
    assert found["codes"] == [None] * 4 and found["seconds"] >= 40, found


@pytest.mark.slow
def test_a_job_that_loses_nobody_ends_as_it_should(tmp_path: Path) -> None:
    found, said = lose("none", 2, tmp_path)
    assert found["codes"] == [0] * 4, (found, said)


def test_what_a_thread_is_in() -> None:
    assert doing(threading.get_ident()) == "the interpreter" or "py:" in doing(threading.get_ident())
    assert _process_state(os.getpid()) in "RS"
    assert _process_state(2**22 + 1) == "gone"


def test_a_broken_collective_is_named_by_its_error() -> None:
    with pytest.raises(ValueError) as caught:
        torch.distributed.all_reduce(torch.ones(1))  # there is no group
    assert "all_reduce" in _raised_in(caught.value)
