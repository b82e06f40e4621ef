"""A run in a process of its own that is killed again and again: `python lives.py WORK KIND TRIES SEED`.

Each try is a forked child that runs a real stage; the parent kills it with SIGKILL at a random moment, runs it again,
and so on until one child has come to the end. Prints one JSON line for each try: kills, sha256 of the final weights,
and the sha256 of all losses in order. A try without kills comes first.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hanok.align.stages import GRPO, GRPOConfig
from hanok.core.log import Log, read_metrics
from hanok.core.stage import Stage, run_stage
from hanok.train.stages import PRETRAIN, SFT, PretrainConfig, SFTConfig

COMMON: dict[str, Any] = {"save_every": 4, "seed": 5}
ADAMW = {"kind": "adamw", "lr": 0.01}


def stage(kind: str, work: Path) -> tuple[Stage, Any, dict[str, Path]]:
    """Return a stage, its configuration and inputs: accumulation, shuffling and packing are all in it."""
    loop = {"accumulate": 2, "spike": 100.0}
    if kind == "pretrain":
        dials = {"dim": 16, "depth": 2, "heads": 2, "kv_heads": 1}
        config = PretrainConfig.parse(
            {"steps": 24, "batch": 2, "length": 16, "dials": dials, "loop": loop, "validate_every": 6, **COMMON}
        )
        return PRETRAIN, config, {"tokens": work / "tokens"}
    inputs = {"model": work / "base"}
    if kind == "sft":
        config = SFTConfig.parse({"steps": 24, "batch": 2, "length": 64, "loop": loop, "optimizer": ADAMW, **COMMON})
        return SFT, config, {**inputs, "conversations": work / "conversations.jsonl"}
    more = {"group": 4, "max_tokens": 4, "updates": 3, "objective": {"kind": "grpo", "beta": 0.05}, "optimizer": ADAMW}
    rewards = [{"kind": "exact_match"}, {"kind": "finished", "weight": 0.5}, {"kind": "format", "pattern": "[a-m].*"}]
    loop = {"accumulate": 2, "numerics": "exact"}
    config = GRPOConfig.parse(
        {"steps": 12, "batch": 2, "length": 64, "rewards": rewards, "loop": loop, **more, **COMMON, "save_every": 2}
    )
    return GRPO, config, {**inputs, "prompts": work / "prompts.jsonl"}


def live(kind: str, work: Path, root: Path) -> None:
    """Run the stage to its end, or until somebody ends this process."""
    which, config, inputs = stage(kind, work)
    run_stage(which, config, inputs, root, log=Log(quiet=True))


def outcome(root: Path) -> dict[str, Any]:
    """Return what a finished run left behind, as hashes."""
    (path,) = (item for item in root.iterdir() if item.is_dir())
    assert path.suffix != ".partial"
    records = read_metrics(path / "metrics.jsonl")
    losses = [[record["step"], record["loss"].hex()] for record in records if "loss" in record]
    losses += [[record["step"], record["train/loss"].hex()] for record in records if "train/loss" in record]
    losses += [[record["step"], record["val/loss"].hex()] for record in records if "val/loss" in record]
    losses += [[record["step"], record["reward"].hex()] for record in records if "reward" in record]
    return {
        "weights": hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest(),
        "losses": hashlib.sha256(json.dumps(losses).encode()).hexdigest(),
        "records": len(losses),
    }


def child(kind: str, work: Path, root: Path) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            live(kind, work, root)
            status = 0
        finally:
            os._exit(status)
    return pid


def written(root: Path) -> int:
    """Return how many records an unfinished run has written."""
    try:
        return max((file.read_bytes().count(b"\n") for file in root.glob("*.partial/metrics.jsonl")), default=-1)
    except FileNotFoundError:  # finished between the look and the reading
        return -1


def kill_somewhere(pid: int, root: Path, records: int, later: float) -> None:
    """Kill a child some moments after it has written so many records (at once, where an earlier life has)."""
    while written(root) < records:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)
    time.sleep(later)
    os.kill(pid, signal.SIGKILL)


def main() -> None:
    work, kind, tries, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    rng = random.Random(seed)
    whole: dict[str, Any] = {}
    stage(kind, work)  # what is imported on first use is imported before the forks
    for attempt in range(tries + 1):
        root = work / f"{kind}-{seed}-{attempt}"
        kills, status = 0, 1
        while status != 0:
            pid = child(kind, work, root)
            if attempt > 0 and kills < 4:
                kill_somewhere(pid, root, rng.randrange(whole["records"]), rng.uniform(0.0, 0.03))
            _, status = os.waitpid(pid, 0)
            kills += status == signal.SIGKILL
            assert status in (0, signal.SIGKILL), status
        found = outcome(root)
        whole = whole or found
        print(json.dumps({"kills": kills, **found}), flush=True)


if __name__ == "__main__":
    main()
