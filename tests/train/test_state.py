"""Checkpoints: whole or absent whatever kills the writer, every changed bit noticed, no pickle anywhere."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hanok.core.artifact import ArtifactError
from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.model.model import Model
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.muon import Muon, MuonConfig
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState, checkpoints, resume, save_checkpoint

Make = Callable[..., TrainState]


@pytest.fixture
def make(tiny: Callable[..., Model], counting: Any) -> Make:
    def build(steps: int = 0, **fields: Any) -> TrainState:
        model = tiny(seed=3 if steps == 0 else 0)
        state = TrainState(model, Muon(MuonConfig(), model), counting(), 10, rng=Streams(7), **fields)
        state.rng.torch("a")
        if steps:
            state.steps = steps
            train(state, NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(spike=50.0))
        return state

    return build


def snapshot(state: TrainState) -> dict[str, Any]:
    tensors, data = state.optimizer.state()
    return {
        "weights": {name: tensor.clone() for name, tensor in state.model.state_dict().items()},
        "optimizer": tensors,
        "data": data,
        "source": state.source.state(),
        "rng": state.rng.state(),
        "counters": [state.step, state.steps, state.num_tokens, state.seconds, state.skipped, state.norms],
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def test_everything_comes_back(make: Make, tmp_path: Path) -> None:
    state = make(5)
    state.rng.torch("a").seed()
    save_checkpoint(state, tmp_path)
    other = make()
    assert not same(snapshot(state), snapshot(other))
    torch.rand(3)
    expected_next = None
    found = resume(other, tmp_path)
    assert found == tmp_path / "step-000005"
    assert same(snapshot(state), snapshot(other))
    expected_next = torch.rand(2)
    resume(other, tmp_path)
    assert torch.equal(torch.rand(2), expected_next)  # the global generator, too


def test_nothing_to_resume(make: Make, tmp_path: Path) -> None:
    assert resume(make(), tmp_path / "none") is None


def test_the_last_ones_are_kept(make: Make, tmp_path: Path) -> None:
    state = make(1)
    for step in (1, 9, 10, 100):
        state.step = step
        save_checkpoint(state, tmp_path, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000010", "step-000100"]


def test_another_configuration_or_model_is_refused(
    make: Make, tiny: Callable[..., Model], counting: Any, tmp_path: Path
) -> None:
    save_checkpoint(make(2, fingerprint="one"), tmp_path)
    with pytest.raises(UsageError, match="another configuration"):
        resume(make(fingerprint="two"), tmp_path)
    deeper = tiny(depth=3)
    state = TrainState(deeper, Muon(MuonConfig(), deeper), counting(), 10, fingerprint="one")
    with pytest.raises(UsageError, match="another model"):
        resume(state, tmp_path)


def damages(path: Path, tries: int) -> list[Callable[[Path], None]]:
    """Return what may happen to a checkpoint: flipped bits in every file, cuts, losses, files swapped."""
    rng = random.Random(0)
    files = sorted(file.name for file in path.iterdir())

    def flip(name: str, place: float, bit: int) -> Callable[[Path], None]:
        def do(folder: Path) -> None:
            raw = bytearray((folder / name).read_bytes())
            raw[int(place * len(raw))] ^= 1 << bit
            (folder / name).write_bytes(raw)

        return do

    def cut(name: str, share: float) -> Callable[[Path], None]:
        return lambda folder: os.truncate(folder / name, int(share * (folder / name).stat().st_size))

    def swap(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "x")
        (folder / "optimizer.safetensors").rename(folder / "model.safetensors")
        (folder / "x").rename(folder / "optimizer.safetensors")

    flips = [flip(rng.choice(files), rng.random(), rng.randrange(8)) for _ in range(tries)]
    cuts = [cut(name, share) for name in files for share in (0.0, 0.5, 0.999)]
    losses = [lambda folder, name=name: (folder / name).unlink() for name in files]
    return [*flips, *cuts, *losses, swap]


def test_every_damage_is_found_and_the_one_before_is_used(make: Make, tmp_path: Path) -> None:
    state = make(2)
    save_checkpoint(state, tmp_path, keep=5)
    good = snapshot(state)
    state.step = 4
    newest = save_checkpoint(state, tmp_path, keep=5)
    spare = tmp_path.with_name("spare")
    shutil.copytree(newest, spare)
    target = make()
    for damage in damages(newest, 150):
        damage(newest)
        said: list[str] = []
        assert resume(target, tmp_path, said.append) == tmp_path / "step-000002"
        assert len(said) == 1
        assert "refused the checkpoint step-000004" in said[0]
        assert str(newest) in said[0]
        shutil.rmtree(newest)
        shutil.copytree(spare, newest)
    assert same(snapshot(target), good)
    assert resume(target, tmp_path, said.append) == newest


def test_control_without_sha256_most_flips_go_unnoticed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors alone does not notice: this arm shows that the test above is not blind."""
    path = save_checkpoint(make(2), tmp_path)
    recorded = json.loads((path / "manifest.json").read_text())["files"]
    monkeypatch.setattr("hanok.train.state.file_sha256", lambda file: recorded[file.name])
    raw = (path / "model.safetensors").read_bytes()
    unnoticed = 0
    for i in range(40):
        broken = bytearray(raw)
        broken[-1 - 97 * i] ^= 8
        (path / "model.safetensors").write_bytes(broken)
        unnoticed += resume(make(), tmp_path) is not None
    assert unnoticed == 40


def test_if_all_are_damaged_the_run_does_not_start_over_in_silence(make: Make, tmp_path: Path) -> None:
    path = save_checkpoint(make(2), tmp_path)
    (path / "state.json").unlink()
    with pytest.raises(ArtifactError, match=r"every checkpoint.*step-000002.*--resume false"):
        resume(make(), tmp_path, lambda text: None)


def test_a_pickle_in_any_place_is_never_opened(make: Make, tmp_path: Path) -> None:
    """A bomb in each slot, with a manifest that vouches for it: refused by type, and nothing has run."""
    from hanok.core.artifact import file_sha256
    from hanok.train.state import MANIFEST, _manifest

    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "canary").encode() + b"'\ntR."
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        folder = tmp_path / name
        path = save_checkpoint(make(2), folder)
        (path / name).write_bytes(bomb)
        files = json.loads((path / MANIFEST).read_text())["files"]
        (path / MANIFEST).write_text(_manifest({**files, name: file_sha256(path / name)}))
        with pytest.raises(UsageError):
            resume(make(), folder, lambda text: None)
    assert not (tmp_path / "canary").exists()


WRITER = """
import sys, torch
from pathlib import Path
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.train.optim.adamw import AdamW
from hanok.train.state import TrainState, save_checkpoint, _weights
from safetensors.torch import save
torch.set_num_threads(1)
folder, arm = Path(sys.argv[1]), sys.argv[2]

class Nothing:
    def state(self): return {}

model = Model(ModelConfig.preset("llama-tiny", vocab=2048, dim=128, depth=4))
state = TrainState(model, AdamW(AdamW.Config(), model), Nothing(), 10**6)
while True:
    state.step += 1
    with torch.no_grad():
        model.embed.weight.fill_(float(state.step))
    if arm == "atomic":
        save_checkpoint(state, folder)
    else:
        raw = save(_weights(model))
        with open(folder / "model.safetensors", "wb", buffering=0) as file:
            for start in range(0, len(raw), 1 << 16):
                file.write(raw[start : start + (1 << 16)])
    print(state.step, flush=True)
"""


def killed_saves(folder: Path, arm: str, tries: int) -> tuple[int, int, int]:
    """Kill a writer that saves all the time, `tries` times; return unreadable, acknowledged but lost, leftovers."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from hanok.train.state import _verify

    rng = random.Random(1)
    unreadable = lost = leftovers = 0
    for _ in range(tries):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = [sys.executable, "-c", WRITER, str(folder), arm]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
        if arm == "atomic":
            found = checkpoints(folder)
            leftovers = max(leftovers, len(list(folder.iterdir())) - len(found))
            for path in found:
                try:
                    _verify(path)
                except ArtifactError:
                    unreadable += 1
            newest = int(found[-1].name.removeprefix("step-")) if found else 0
            lost += newest < acknowledged
        else:
            try:
                whole = load_file(folder / "model.safetensors")["embed.weight"]
                lost += int(whole[0, 0]) < acknowledged or not bool((whole == whole[0, 0]).all())
            except (SafetensorError, OSError):
                unreadable += 1
    return unreadable, lost, leftovers


@pytest.mark.parametrize("tries", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_a_kill_during_a_save_loses_nothing(tries: int, tmp_path: Path) -> None:
    unreadable, lost, leftovers = killed_saves(tmp_path / "a", "atomic", tries)
    assert (unreadable, lost) == (0, 0)
    assert leftovers <= 2  # the unfinished new one, and an old one half removed


@pytest.mark.slow
def test_control_overwriting_in_place_does_not_survive_kills(tmp_path: Path) -> None:
    unreadable, lost, _ = killed_saves(tmp_path / "b", "overwrite", 30)
    assert unreadable + lost > 3


def test_leftovers_of_a_kill_are_swept(make: Make, tmp_path: Path) -> None:
    path = save_checkpoint(make(2), tmp_path)
    shutil.copytree(path, tmp_path / ".step-000003.abc.tmp")
    (tmp_path / ".step-000003.abc.tmp" / "manifest.json").unlink()
    assert resume(make(), tmp_path) == path
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_failed_save_keeps_the_old_one_and_says_so(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make(2)
    path = save_checkpoint(state, tmp_path, keep=1)
    calls = {"n": 0}

    def full(*args: Any, **kwargs: Any) -> None:
        calls["n"] += 1
        if calls["n"] == 2:
            raise OSError(28, "No space left on device")
        save_file(*args, **kwargs)

    monkeypatch.setattr("hanok.train.state.save_file", full)
    state.step = 3
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(state, tmp_path, keep=1)
    assert resume(make(), tmp_path) == path
