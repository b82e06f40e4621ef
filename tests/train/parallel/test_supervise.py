"""Restarts: from the last checkpoint, more and more slowly, and not for ever."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hanok.core.errors import UsageError
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.parallel.supervise import Patience, supervise
from hanok.train.parallel.torchrun import split_restarts

# A job that fails so many times; each life leaves a checkpoint if asked, and a word of why it ended.
JOB = """
import json, os, sys
from pathlib import Path
home, fails, saves, word = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "saves", sys.argv[4]
lives = home / "lives"
number = int(lives.read_text()) if lives.exists() else 0
lives.write_text(str(number + 1))
notes = Path(os.environ["HANOK_SUPERVISED"])
(notes / "folder").write_text(json.dumps(str(home / "checkpoints")))
if saves:
    (home / "checkpoints" / f"step-{number + 1:06d}").mkdir(parents=True)
if word:
    (notes / "ended").write_text(word)
sys.exit(1 if number < fails else 0)
"""


def job(home: Path, fails: int, *, saves: bool = False, word: str = "") -> list[str]:
    home.mkdir()
    return [sys.executable, "-c", JOB, str(home), str(fails), "saves" if saves else "", word]


def lives(home: Path) -> int:
    return int((home / "lives").read_text())


def test_restarts_slow_down_and_end(tmp_path: Path) -> None:
    waits: list[float] = []
    said: list[str] = []
    patience = Patience(5, longest=5)
    assert supervise(job(tmp_path / "a", 9), patience, pause=waits.append, say=said.append) == 1
    assert waits == [1, 2, 4, 5, 5] and lives(tmp_path / "a") == 6
    assert "failed 6 times without a new checkpoint" in said[-1] and "starts over" in said[0]


def test_a_life_that_saves_begins_the_count_anew(tmp_path: Path) -> None:
    waits: list[float] = []
    said: list[str] = []
    assert supervise(job(tmp_path / "a", 4, saves=True), Patience(1), pause=waits.append, say=said.append) == 0
    assert waits == [1, 1, 1, 1] and lives(tmp_path / "a") == 5
    assert "goes on from step-000004" in said[-1]


def test_what_cannot_help_is_not_tried_again(tmp_path: Path) -> None:
    assert supervise(job(tmp_path / "a", 9, word="2"), Patience(5)) == 2
    assert lives(tmp_path / "a") == 1
    assert supervise(job(tmp_path / "b", 0), Patience(5)) == 0


STOPPED = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
open(sys.argv[1], "w").close()
while True:
    time.sleep(0.01)
"""


def test_a_wish_to_stop_is_handed_on(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def stop() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert supervise([sys.executable, "-c", STOPPED, str(ready)], Patience(5)) == 7


def test_the_option_is_ours() -> None:
    assert split_restarts(["--nproc-per-node=2", "--max-restarts=3"]) == (["--nproc-per-node=2"], 3)
    assert split_restarts(["--max_restarts", "4", "-x"]) == (["-x"], 4)
    assert split_restarts(["--nproc_per_node=2"]) == (["--nproc_per_node=2"], 0)
    with pytest.raises(UsageError, match="--max-restarts=3"):
        split_restarts(["--max-restarts=often"])


def test_a_wish_to_stop_ends_a_wait(tmp_path: Path) -> None:
    def say(text: str) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

    assert supervise(job(tmp_path / "a", 9), Patience(5, first=3600, longest=3600), say=say) == 1
    assert lives(tmp_path / "a") == 1


@pytest.mark.slow
def test_a_job_whose_rank_is_killed_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """The command itself: torchrun, two ranks, one of which is killed; named, started again, and equal at the end."""
    texts = [f"column {i} and beam {i * 7 % 13} hold the roof" for i in range(80)]
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    (tmp_path / "tokens").mkdir()
    tokenizer.save(tmp_path / "tokens")
    documents = map(tokenizer.encode_document, texts)
    write_shards(tmp_path / "tokens" / "train", documents, vocab_size=tokenizer.vocab_size, num_bytes=2000)
    settings = ["steps=40", "batch=4", "length=32", "dials.dim=32", "dials.depth=2", "save_every=5", "keep=9"]
    found = {}
    for name in ("whole", "killed"):
        launch = ["--", "--nproc-per-node=2", "--max-restarts=3"]
        out = ["-o", str(tmp_path / name), "-q", "--json", *settings, *launch]
        program = [sys.executable, "-m", "hanok", "pretrain", "--data", str(tmp_path / "tokens"), *out]
        env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        running = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        if name == "killed":
            while not list(tmp_path.glob("killed/*.partial/checkpoints/step-000005")) and running.poll() is None:
                time.sleep(0.01)
            os.kill(ranks_of(running.pid)[1], signal.SIGKILL)
        said, errors = running.communicate(timeout=600)
        assert running.returncode == 0, errors[-3000:]
        path = Path(json.loads(said.splitlines()[-1])["path"])
        losses = [json.loads(line).get("loss") for line in (path / "metrics.jsonl").read_text().splitlines()]
        found[name] = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest(), losses
    assert "goes on from step-" in errors and "rank 1 (pid" in errors, errors[-3000:]
    assert found["killed"] == found["whole"]


def ranks_of(pid: int) -> list[int]:
    """Return the pids of a job's ranks, by rank: the processes below this one that torchrun has numbered."""
    found: dict[int, int] = {}
    below = [pid]
    while below:
        here = below.pop()
        for task in Path(f"/proc/{here}/task").glob("*/children"):
            below += [int(word) for word in task.read_text().split()]
        words = Path(f"/proc/{here}/environ").read_bytes().decode().split("\0")
        own = dict(word.split("=", 1) for word in words if "=" in word)
        if "LOCAL_RANK" in own:
            found[int(own["LOCAL_RANK"])] = here
    return [found[rank] for rank in sorted(found)]
