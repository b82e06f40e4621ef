"""What loading and saving a checkpoint costs at its peak, measured by the system on a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
SHARD = 48 * MIB
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured through /proc")
SIZES = {"vocab_size": 8192, "hidden_size": 768, "num_attention_heads": 12, "max_position_embeddings": 64}
# A plain family, one whose files hold query, key and value in one tensor, and one whose experts we hold as one tensor.
CASES: dict[str, dict[str, Any]] = {
    "llama": {"num_hidden_layers": 5, "intermediate_size": 2560},
    "gpt_neox": {"num_hidden_layers": 6, "intermediate_size": 3072},
    "mixtral": {"num_hidden_layers": 2, "intermediate_size": 1024, "num_local_experts": 8, "num_key_value_heads": 4},
}

# Every step in a new process: what an allocator keeps from one must not pay for the next.
PROGRAM = """
import json, sys
from pathlib import Path
import torch
from hanok.model.families import FAMILIES
from hanok.model.model import Model
from hanok.model.place import Places
from hanok.model.size import stored
from hanok.model.weights import load_model, read_architecture, save_model

MODE, WHERE, THEIRS, SHARD = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)


def held(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024


def measured(action):
    Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS:")
    result = action()
    return held("VmHWM:") - before, result


def made(theirs):
    model = Model(read_architecture(theirs, WHERE)[1], device="meta").to_empty(device="cpu")
    model.tie()
    for tensor in stored(model).values():
        torch.nn.init.constant_(tensor, 0.5)
    return model


small = {"hidden_size": 96, "intermediate_size": 8, "vocab_size": 16, "num_hidden_layers": 1}
save_model(made(THEIRS | small), WHERE / "small")
load_model(WHERE / "small")  # what is imported or set up once happens here
model = made(THEIRS) if MODE == "save" else None
action = (lambda: save_model(model, WHERE / "m", shard_bytes=SHARD)) if model else (lambda: load_model(WHERE / "m"))
grown, loaded = measured(action)
model = model or loaded
family = FAMILIES[THEIRS["model_type"]]
theirs = Places(family, model.config, stored(model)).give_out(stored(model))[0]
print(json.dumps({
    "grown": grown,
    "weights": sum(tensor.nbytes for tensor in stored(model).values()),
    "largest": max(outline.nbytes for outline in theirs.values()),
    "sums": sum(float(tensor.sum(dtype=torch.float64)) / tensor.numel() for tensor in stored(model).values()),
    "tensors": len(stored(model)),
}))
"""


def run(mode: str, where: Path, theirs: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-c", PROGRAM, mode, str(where), json.dumps(theirs), str(SHARD)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("family", CASES)
def test_loading_and_saving_hold_one_tensor_more(family: str, tmp_path: Path) -> None:
    theirs = SIZES | CASES[family] | {"model_type": family}
    saved = run("save", tmp_path, theirs)
    assert saved["weights"] > 150 * MIB and len(list((tmp_path / "m").glob("model-*.safetensors"))) > 3
    assert saved["grown"] <= saved["largest"] + 0.05 * saved["weights"], saved
    loaded = run("load", tmp_path, theirs)
    assert loaded["grown"] <= 1.05 * loaded["weights"] + loaded["largest"], loaded
    assert loaded["grown"] >= 0.9 * loaded["weights"], f"the measure sees nothing: {loaded}"
    assert loaded["sums"] == saved["sums"] == 0.5 * saved["tensors"]
