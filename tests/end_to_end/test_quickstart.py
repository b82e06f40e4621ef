"""The whole life, small: it ends, a rerun has nothing to do, a killed run goes on, nothing leaves the machine."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data import topics

import pytest

import hanok
from hanok.core.artifact import Artifact
from hanok.report.find import find_artifacts

STEPS = {"plan", "data", "tasks", "pretrain", "sft", "dpo", "focus", "grpo", "ladder", "quantize", "serve"}
STEPS |= {f"eval-{label}" for label in ("base", "sft", "dpo", "grpo", "int8")}
# Any connection that would leave the machine fails, in every process that Python starts.
GUARD = """
import socket
connect = socket.socket.connect
def guarded(self, address):
    inet = self.family in (socket.AF_INET, socket.AF_INET6)
    if inet and not str(address[0]).startswith(("127.", "::1", "localhost")):
        raise SystemExit(f"LEFT THE MACHINE: {address}")
    return connect(self, address)
socket.socket.connect = guarded
"""


def quickstart(root: Path, text: Path) -> subprocess.Popen[str]:
    guard = root.parent / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(GUARD)
    command = [sys.executable, "-m", "hanok", "quickstart", "--minutes", "0.1", "--depth", "1", "--port", "0"]
    command += ["--data", str(text)]
    return subprocess.Popen(
        [*command, "-o", str(root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(guard), "OMP_NUM_THREADS": "1"},  # the other core has tests to run
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    assert "LEFT THE MACHINE" not in out
    return out


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of a thirtieth of the usual corpus."""
    file = tmp_path_factory.mktemp("text") / "topics.txt"
    file.write_text("\n\n".join(topics.topics.values())[:100_000], encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("life") / "run"
    out = finish(quickstart(root, text))
    assert "report.html" in out and "there already" not in out
    bare = [line for line in out.splitlines() if line.startswith("✓") and not line.partition(") ")[2].strip()]
    assert not bare, "each step says what came out"
    return root


def test_every_step_left_a_verified_artifact_and_the_report_is_there(finished: Path) -> None:
    artifacts = find_artifacts(finished)
    assert set(artifacts) == STEPS
    for artifact in artifacts.values():
        Artifact.load(artifact.path)
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "<script src=" not in page and len(page) < 8_000_000
    assert not list(finished.glob("*.partial"))


def test_the_figures_are_those_of_the_files(finished: Path) -> None:
    artifacts = find_artifacts(finished)
    results = json.loads((artifacts["eval-sft"].path / "results.json").read_text())
    for task, figure in results["tasks"].items():
        rows = (artifacts["eval-sft"].path / f"samples_{task}.jsonl").read_text(encoding="utf-8").split("\n")
        scores = [json.loads(row)["score"] for row in rows if row]
        assert figure["value"] == sum(scores) / len(scores) and len(scores) == 200
    model = hanok.load(artifacts["grpo"].path)
    assert model.chat is not None and model.generate([{"role": "user", "content": "1 + 1 ="}], max_tokens=4).tokens


def test_a_second_run_finds_everything(finished: Path, text: Path) -> None:
    started = time.monotonic()
    out = finish(quickstart(finished, text))
    assert out.count("there already") == len(STEPS)
    assert time.monotonic() - started < 60


def test_damage_is_named_and_refused(finished: Path, text: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    weights = find_artifacts(root)["sft"].path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    process = quickstart(root, text)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 2 and "model.safetensors has changed" in out


@pytest.mark.slow
def test_killed_anywhere_it_goes_on(text: Path, tmp_path: Path) -> None:
    rng, root = random.Random(0), tmp_path / "run"
    for _ in range(8):
        process = quickstart(root, text)
        try:
            process.wait(timeout=rng.uniform(4, 25))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(quickstart(root, text))
    assert set(find_artifacts(root)) == STEPS
