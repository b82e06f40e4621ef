"""Processes that save all the time and are killed: `python kills.py FOLDER ARM TRIES SEED`, one JSON line at the end.

The parent forks a writer, waits for its first acknowledgement, kills it with SIGKILL at a random moment, and looks at
what is there. ARM "atomic" saves checkpoints; "overwrite" writes one file in place, which is the control.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hanok.core.artifact import ArtifactError
from hanok.train.checkpoint.folder import claimed
from hanok.train.checkpoint.manifest import verify
from hanok.train.checkpoint.save import weights_of
from hanok.train.state import checkpoints, save_checkpoint


def helper(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, arm: str, state: Any, pipe: int) -> None:
    """Save for ever, and say each step after it was saved."""
    while True:
        state.step += 1
        with torch.no_grad():
            state.model.embed.weight.fill_(float(state.step))
        if arm == "atomic":
            save_checkpoint(state, folder, keep=2)
        else:
            raw = save(weights_of(state.model))
            with open(folder / "model.safetensors", "wb", buffering=0) as file:
                for start in range(0, len(raw), 1 << 16):
                    file.write(raw[start : start + (1 << 16)])
        os.write(pipe, f"{state.step}\n".encode())


def life(folder: Path, arm: str, state: Any, later: float) -> int:
    """Let a writer live for a while; return the last step that it acknowledged."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            write(folder, arm, state, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        first = lines.readline()
        time.sleep(later)
        os.kill(pid, signal.SIGKILL)
        rest = lines.read()
    os.waitpid(pid, 0)
    return int((first + rest).split(b"\n")[:-1][-1])


def main() -> None:
    folder, arm, tries, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    rng = random.Random(seed)
    state = helper("states").small(1, vocab=2048, dim=128)
    state.step = 0
    unreadable = lost = leftovers = unswept = during = 0
    for _ in range(tries):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        acknowledged = life(folder, arm, state, rng.uniform(0.0, 0.1))
        if arm == "atomic":
            found = checkpoints(folder)
            extra = len(list(folder.iterdir())) - len(found)
            leftovers, during = max(leftovers, extra), during + (extra > 0)
            for path in found:
                try:
                    verify(path)
                except ArtifactError:
                    unreadable += 1
            lost += (int(found[-1].name.removeprefix("step-")) if found else 0) < acknowledged
            with claimed(folder):
                unswept += len(list(folder.iterdir())) - len(found)
        else:
            try:
                whole = load_file(folder / "model.safetensors")["embed.weight"]
                lost += int(whole[0, 0]) < acknowledged or not bool((whole == whole[0, 0]).all())
            except (SafetensorError, OSError):
                unreadable += 1
    record = {"unreadable": unreadable, "lost": lost, "leftovers": leftovers, "unswept": unswept, "during": during}
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
