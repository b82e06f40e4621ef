"""The memory that is predicted is what torch asks for, and what the process grows by, over many configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.train.ema import EMA, EMAConfig
from hanok.train.plan.example import example, objective_of, packs
from hanok.train.plan.memory import need, take
from hanok.train.stages import PretrainConfig

FAST: list[tuple[str, dict[str, int], dict[str, Any]]] = [
    ("llama-tiny", {"vocab": 512, "dim": 64, "depth": 2, "heads": 4}, {"batch": 4, "length": 64}),
    (
        "llama-tiny",
        {"vocab": 96, "dim": 96, "depth": 4, "heads": 4},
        {"batch": 2, "length": 128, "loop": {"recompute": 1}},
    ),
    ("gpt-tiny", {"vocab": 300, "dim": 64, "depth": 3, "heads": 4}, {"optimizer": {"kind": "adamw"}}),
    (
        "llama-tiny",
        {"vocab": 512, "dim": 64, "depth": 2, "heads": 2},
        {"loop": {"compute": "bfloat16", "accumulate": 2}},
    ),
    ("mamba-tiny", {"vocab": 200, "dim": 64, "depth": 2}, {"batch": 2, "length": 64, "optimizer": {"kind": "lion"}}),
    ("llama-tiny", {"vocab": 512, "dim": 64, "depth": 2, "heads": 4}, {"batch": 4, "ema": {}, "packing": True}),
    (
        "llama-tiny",
        {"vocab": 4096, "dim": 64, "depth": 1, "heads": 4},
        {"objective": {"kind": "clm", "logits": "pieces"}},
    ),
    ("bert", {"vocab": 2048, "dim": 64, "depth": 2, "heads": 4}, {"objective": "mlm"}),
    ("transformer", {"vocab": 2048, "dim": 64, "depth": 2, "heads": 4}, {"objective": "span_corruption", "ema": {}}),
    ("llama-tiny", {"vocab": 1024, "dim": 64, "depth": 2, "heads": 4}, {"objective": "prefix_lm"}),
]


PIECES = {"kind": "clm", "logits": "pieces"}


def configs(case: tuple[str, dict[str, int], dict[str, Any]]) -> tuple[ModelConfig, PretrainConfig]:
    preset, dials, settings = case
    config = PretrainConfig.parse({"steps": 1, "length": 64, "optimizer": {"kind": "adamw"}, **settings})
    return ModelConfig.preset(preset, **dials), config


def steps(model: ModelConfig, config: PretrainConfig) -> None:
    built, objective = Model(model), objective_of(config)
    batch = example(config, model.vocab, objective, packed=packs(config, built))
    take(built, config, objective, batch, None if config.ema is None else EMA(config.ema, built))


def allocated(model: ModelConfig, config: PretrainConfig) -> int:
    """Return the most that torch's allocator had given out at any time, as its profiler tells it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        steps(model, config)
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    "case",
    [*FAST[2:5], *(pytest.param(case, marks=pytest.mark.slow) for case in (*FAST[:2], *FAST[5:]))],
    ids=lambda case: f"{case[0]} {case[2]}",
)
def test_the_peak_is_what_the_allocator_gives_out(case: tuple[str, dict[str, int], dict[str, Any]]) -> None:
    model, config = configs(case)
    found, real = need(model, config), allocated(model, config)
    assert abs(found.peak - real) <= 0.05 * real, (found, real)
    assert found.weights < found.peak and found.passing > 0


def test_what_is_computed_twice_is_not_held() -> None:
    model, config = configs(FAST[0])
    lean = config.model_copy(update={"loop": config.loop.model_copy(update={"recompute": 1})})
    assert need(model, lean).peak < 0.8 * need(model, config).peak
    assert need(model, lean).weights == need(model, config).weights


def test_moments_are_counted() -> None:
    model, config = configs(FAST[0])
    found = need(model, config)
    tables = 2 * 2 * 1024 * 8 * 4  # cos and sin of each layer's rotations stay too
    assert found.optimizer == pytest.approx(2 * found.weights + tables, rel=0.01)  # AdamW: two numbers a weight


def test_what_is_learned_is_planned() -> None:
    """Logits in pieces, or of the hidden tokens alone, take less; an average of the weights takes as much as they."""
    model, config = configs(("llama-tiny", {"vocab": 4096, "dim": 64, "depth": 1, "heads": 4}, {"batch": 32}))
    whole = need(model, config)
    pieces = config.model_copy(update={"objective": PretrainConfig.parse({"steps": 1, "objective": PIECES}).objective})
    assert need(model, pieces).peak < 0.8 * whole.peak
    averaged = need(model, config.model_copy(update={"ema": EMAConfig()}))
    assert averaged.average == sum(4 * p.numel() for p in Model(model, device="meta").parameters()) > 0
    assert whole.average == 0
    assert averaged.peak == pytest.approx(whole.peak + whole.weights, rel=0.01)
    with pytest.raises(UsageError, match="see: all"):
        need(model, PretrainConfig.parse({"steps": 1, "objective": "mlm"}))


def test_compiled_code_is_not_planned() -> None:
    model, config = configs(FAST[0])
    with pytest.raises(UsageError, match=r"loop\.compile"):
        need(model, config.model_copy(update={"loop": config.loop.model_copy(update={"compile": "model"})}))


# Sizes at which a process's own overhead, some 7 MiB, is below the bound.
SLOW = [
    ("llama-tiny", {"vocab": vocab, "dim": dim, "depth": depth, "heads": 8}, {"batch": batch, "length": length, **more})
    for vocab, dim, depth, batch, length in (
        (8192, 384, 4, 4, 256),
        (8192, 512, 4, 4, 256),
        (4096, 512, 6, 4, 256),
        (2048, 640, 4, 8, 192),
        (1024, 512, 8, 4, 256),
    )
    for more in (
        {"optimizer": {"kind": "adamw"}},
        {"optimizer": {"kind": "muon"}},
        {"optimizer": {"kind": "adamw"}, "loop": {"recompute": 1}},
        {"optimizer": {"kind": "lion"}, "loop": {"accumulate": 2}},
    )
]
PROGRAM = """
import ctypes, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
ctypes.CDLL("libc.so.6").mallopt(-3, 1 << 18)  # blocks above 256 KiB go back to the system when they are freed
from test_memory import FAST, configs, steps

def held(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024

case = json.loads(sys.argv[2])
steps(*configs((case[0], {**case[1], "vocab": 64, "dim": 32, "depth": 1}, {**case[2], "batch": 2, "length": 16})))
Path("/proc/self/clear_refs").write_text("5")
before = held("VmRSS:")
steps(*configs(case))
print(held("VmHWM:") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured through /proc")
@pytest.mark.parametrize("case", SLOW, ids=str)
def test_a_process_grows_by_what_was_predicted(case: tuple[str, dict[str, int], dict[str, Any]]) -> None:
    found = need(*configs(case)).peak
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), json.dumps(case)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    real = int(done.stdout)
    assert abs(found - real) <= 0.05 * real, (found / 2**20, real / 2**20)
    assert torch.get_num_threads() == 1
