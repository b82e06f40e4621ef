"""A run on several processes that is killed again and again: `python team_lives.py WORK LAYOUT TRIES SEED KILLS`.

Each life is a group of forked ranks (gloo) that run the real pre-training stage together: two folders mixed, rows
packed with document masks, shuffled, gradients accumulated, an average of the weights kept. In each life one rank is
killed by SIGKILL: at any moment of training, or at a random one of the system calls that a save or a load makes; the
others are killed some moments later. Then all start again, and so on until one life has come to the end. Prints one
JSON line for each try: how many were killed in which part, and hashes of the final weights and of all losses. A try
without kills comes first.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from hanok.core.log import Log
from hanok.text.data.sources import MixtureConfig
from hanok.train import run as runner
from hanok.train.hook import checkpoint as saver
from hanok.train.parallel import team
from hanok.train.parallel.config import Place
from hanok.train.parallel.launch import run_together
from hanok.train.parallel.mesh import process_group
from hanok.train.stages import PRETRAIN, PretrainConfig
from tests.fuse import Fuse
from tests.train.lives import outcome, written

KINDS = ("train", "save", "load")


def config(work: Path, layout: dict[str, int]) -> PretrainConfig:
    """Return a run with all that a checkpoint has to know of."""
    sources = {name: str(work / name) for name in ("prose", "tables")}
    mixture = MixtureConfig.parse({"sources": sources, "weights": {"prose": 0.7}}).pin()
    return PretrainConfig.parse(
        {
            "steps": 12,
            "batch": 4,
            "length": 16,
            "packing": True,
            "dials": {"dim": 16, "depth": 2, "heads": 2, "kv_heads": 1},
            "mixture": mixture.to_dict(),
            "ema": {"decay": 0.9},
            "loop": {"accumulate": 2, "spike": 100.0},
            "parallel": layout,
            "save_every": 2,
            "save_seconds": 1e9,
            "validate_every": 6,
            "validation_tokens": 64,
            "seed": 5,
        }
    )


def rank_main(where: Place, store: Path, work: Path, root: Path, layout: dict[str, int], fuse: tuple[str, int]) -> None:
    """Be one rank of a life; a fuse of the kind `save` or `load` ends it there, if it gets so far."""
    torch.set_num_threads(1)
    kind, left = fuse
    if kind == "save":
        saver.save_checkpoint = Fuse(left).around(saver.save_checkpoint)  # type: ignore[attr-defined]
    if kind == "load":
        runner.resume = Fuse(left).around(runner.resume)  # type: ignore[attr-defined]
    with process_group(where, init_method=f"file://{store}", seconds=300):
        run_together(PRETRAIN, config(work, layout), {"tokens": work / "prose"}, root, log=Log(quiet=True))


def life(number: int, work: Path, root: Path, layout: dict[str, int], fuse: tuple[int, str, int]) -> list[int]:
    """Start all ranks; fuse: (rank, kind, left)."""
    size, store = PretrainConfig(steps=1, parallel=layout).parallel.size, root.with_name(f"{root.name}-store-{number}")
    pids = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                own = fuse[1:] if fuse[0] == rank else ("", 0)
                rank_main(Place(rank, size, rank), store, work, root, layout, own)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        pids.append(pid)
    return pids


def ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end(pids: list[int], root: Path, rng: random.Random, fuse: tuple[int, str, int], records: int) -> str:
    """Kill a life as its kind says, and return in which part one of its ranks was killed (nothing: it came through)."""
    rank, kind, _ = fuse
    after = rng.randrange(records)
    while not any(map(ended, pids)) and not (kind == "train" and written(root) >= after):
        time.sleep(0.001)
    if kind == "train":
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(pids[rank], signal.SIGKILL)
    if kind and not all(map(ended, pids)):
        time.sleep(rng.choice([0.0, 0.0, 0.05]) * rng.random())  # the others go on alone for a while, or not
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * len(pids) or -signal.SIGKILL in codes, codes
    return "" if codes == [0] * len(pids) else kind


def attempt(
    work: Path, root: Path, layout: dict[str, int], rng: random.Random, kills: int, records: int
) -> Counter[str]:
    """Run until it is done, with one kill in each of the first `kills` lives."""
    found: Counter[str] = Counter()
    number = 0
    while True:
        fuse = (-1, "", 0)
        if number < kills:
            kind = rng.choice(KINDS if number else KINDS[:2])  # there is nothing to load in a first life
            fuse = (rng.randrange(2), kind, rng.randrange({"train": 1, "save": 60, "load": 12}[kind]))
        where = end(life(number, work, root, layout, fuse), root, rng, fuse, records)
        number += 1
        if not where:
            return found
        found[where] += 1


def main() -> None:
    work, layout, tries, seed = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    rng = random.Random(seed)
    assert team.divide  # what a life imports and measures once is imported and measured before the forks
    runner._peak("float32", "cpu")
    whole: dict[str, Any] = {}
    for number in range(tries + 1):
        root = work / f"runs-{'-'.join(layout)}-{seed}-{number}"
        kills = attempt(work, root, layout, rng, int(sys.argv[5]) if number else 0, whole.get("records", 1))
        found = outcome(root)
        whole = whole or found
        print(json.dumps({"kills": kills, **found}), flush=True)


if __name__ == "__main__":
    main()
