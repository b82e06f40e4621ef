"""A run that goes on with another number of processes each time: `python reshard.py FOLDER 1,2,4,1`.

Each size is a group of forked processes (gloo) that shard the model with FSDP2, resume, take two steps along given
gradients and save. Prints one JSON line per size: sha256 of all whole parameters and moments after resuming and after
the steps, in every rank, and how many classes were unpickled while saving and loading.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hanok.train.checkpoint.save import weights_of
from hanok.train.ema import EMA, EMAConfig
from hanok.train.state import TrainState, resume, save_checkpoint

UNPICKLED: list[str] = []
WATCHING = [False]


def helper(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def audit(event: str, args: Any) -> None:
    if event == "pickle.find_class" and WATCHING[0]:
        UNPICKLED.append(str(args))


def contents(state: TrainState) -> dict[str, torch.Tensor]:
    """Return every whole tensor of the run by name, in order; each rank comes to the same."""
    tensors = {**weights_of(state.model), **state.optimizer.state()[0]}
    for name, kept in state.extra.items():
        tensors |= {f"{name}/{key}": tensor for key, tensor in kept.state()[0].items()}
    return {name: _whole(tensors[name]) for name in sorted(tensors)}


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().contiguous()


def digest(state: TrainState) -> str:
    """Return the sha256 of every whole tensor of the run."""
    found = hashlib.sha256()
    for name, whole in contents(state).items():
        found.update(name.encode() + str(tuple(whole.shape)).encode() + whole.numpy().tobytes())
    return found.hexdigest()


def advance(state: TrainState) -> None:
    """Take a step along a whole gradient that depends on the step's number only."""
    generator = torch.Generator().manual_seed(state.step)
    for parameter in state.optimizer.parameters:
        whole = torch.randn(parameter.shape, generator=generator)
        if isinstance(parameter, DTensor):
            whole = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
        parameter.grad = whole
    state.optimizer.step(1.0)
    state.source.next_batch()
    state.step += 1
    state.extra["ema"].after_step(state, {})


def build(seed: int) -> TrainState:
    states = helper("states")
    state: TrainState = states.small(seed=seed, dim=16)
    if dist.is_initialized() and dist.get_world_size() > 1:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for block in state.model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(state.model, mesh=mesh)
        state.optimizer = type(state.optimizer)(state.optimizer.config, state.model)
    state.extra["ema"] = EMA(EMAConfig(decay=0.9), state.model)
    return state


def rank_main(folder: Path, rank: int, size: int, store: Path, first: bool) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    state = build(seed=0 if first else 9)
    WATCHING[0] = True
    found = resume(state, folder, print)
    WATCHING[0] = False
    assert (found is None) == first
    loaded = digest(state)
    drawn = state.source.state()["drawn"]
    for _ in range(2):
        advance(state)
    moved = digest(state)
    norms = {name: float(whole.double().norm()) for name, whole in contents(state).items()}
    torch.rand(rank + 1)  # every rank is somewhere else in its random numbers
    expected = torch.get_rng_state()
    WATCHING[0] = True
    path = save_checkpoint(state, folder, keep=9, part_bytes=3000)
    again = build(seed=5)
    resume(again, folder, print)
    WATCHING[0] = False
    assert torch.equal(torch.get_rng_state(), expected)
    record = {"size": size, "loaded": loaded, "moved": moved, "again": digest(again), "drawn": drawn, "norms": norms}
    record |= {"path": str(path), "unpickled": len(UNPICKLED), "files": len(list(path.iterdir())), "step": state.step}
    if size > 1:
        records: list[Any] = [None] * size
        dist.all_gather_object(records, record)
        assert all(other == record for other in records), records
    if rank == 0:
        print(json.dumps(record), flush=True)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def main() -> None:
    folder = Path(sys.argv[1])
    sys.addaudithook(audit)
    for number, size in enumerate(int(text) for text in sys.argv[2].split(",")):
        pids = []
        for rank in range(size):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    rank_main(folder, rank, size, folder.with_name(f"store-{number}"), number == 0)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            pids.append(pid)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0, f"a rank of {size} failed"


if __name__ == "__main__":
    main()
