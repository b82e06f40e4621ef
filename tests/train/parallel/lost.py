"""Four ranks that train, of which one is lost: `python lost.py HOW SECONDS`.

HOW: kill (SIGKILL), freeze (SIGSTOP), stuck (a C call that never lets the interpreter go), none. SECONDS is the
watchdog's patience, 0 for none. Prints one JSON line: exit code of each rank (None: still there), and the seconds
between the loss and the last exit, or `limit` seconds later where ranks remain, which are then killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch
from torch import distributed as dist

from hanok.core.errors import HanokError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.train.hook import Hook, Record
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.parallel.config import ParallelConfig, Place
from hanok.train.parallel.mesh import process_group
from hanok.train.parallel.team import divide
from hanok.train.parallel.verify import RandomRows, Trial
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState

LOST, STEP, STEPS, LIMIT = 2, 3, 400, 40.0


class Sabotage(Hook):
    """Loses one rank after some steps, and writes down when."""

    def __init__(self, how: str, mark: Path) -> None:
        self.how, self.mark = how, mark

    def after_step(self, state: TrainState, record: Record) -> None:
        if self.how == "none" and state.step == STEP:
            state.steps = STEP
        if dist.get_rank() != LOST or state.step != STEP or self.how == "none":
            return
        self.mark.write_text(str(time.time()))
        if self.how == "stuck":
            ctypes.PyDLL(None).sleep(3600)
        os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGSTOP)


def rank(where: Place, port: int, how: str, seconds: float, mark: Path) -> int:
    torch.set_num_threads(1)
    dials = {"vocab": 32, "dim": 16, "depth": 2, "heads": 2, "kv_heads": 1, "hidden": 32, "context": 32}
    config = ModelConfig.preset("llama-tiny", **dials)
    with process_group(where, init_method=f"tcp://127.0.0.1:{port}", seconds=3600):
        team = divide(Model(config), ParallelConfig(data=where.size, watchdog=seconds), LoopConfig())
        source = team.slice(RandomRows(Trial(config, rows=4, length=8), 1))
        state = TrainState(team.model, AdamW(AdamWConfig(), team.model), source, STEPS)
        state.ranks, state.forward = team.ranks, team.policy
        try:
            with team.watched(state):
                hooks = [Sabotage(how, mark)]
                train(state, NextToken(NextToken.Config()), Constant(Constant.Config()), LoopConfig(), hooks)
        except HanokError as error:
            os.write(2, f"error: {error}\n".encode())
            return error.exit_code
    return 0


def main() -> None:
    how, seconds, mark = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = rank(Place(number, 4, number), port, how, seconds, mark)
            finally:
                os._exit(code)
        children.append(pid)
    codes: dict[int, int] = {}
    started = time.time()
    while len(codes) < len(children) and (not mark.exists() or time.time() - mark.stat().st_mtime < LIMIT):
        for pid in children:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                codes |= {pid: os.waitstatus_to_exitcode(status)} if done else {}
        time.sleep(0.02)
    lost = mark.stat().st_mtime if mark.exists() else started
    print(json.dumps({"codes": [codes.get(pid) for pid in children], "seconds": time.time() - lost}), flush=True)
    for pid in children:
        if pid not in codes:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
