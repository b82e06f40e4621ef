"""Checkpoints bring everything back, the right ones are kept, and what does not fit is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hanok.core.artifact import ArtifactError
from hanok.core.errors import HanokError, UsageError
from hanok.core.rng import Streams
from hanok.model.model import Model
from hanok.train.checkpoint.folder import claimed
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.muon import Muon, MuonConfig
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState, checkpoints, load_weights, resume, save_checkpoint

from .checkpoint.states import same, small, snapshot

Make = Callable[..., TrainState]


class Average:
    """A companion with a tensor for each weight, and one that is no weight's."""

    def __init__(self, model: Model, share: float) -> None:
        self.kept = {name: share * tensor.clone() for name, tensor in model.state_dict().items()}
        self.kept["sums"] = torch.full((3,), share)
        self.count = int(10 * share)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.kept, {"count": self.count}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        self.kept = {name: tensors[name].clone() for name in self.kept}
        self.count = data["count"]


@pytest.fixture
def make(tiny: Callable[..., Model], counting: Any) -> Make:
    def build(steps: int = 0, **fields: Any) -> TrainState:
        model = tiny(seed=3 if steps == 0 else 0)
        state = TrainState(model, Muon(MuonConfig(), model), counting(), 10, rng=Streams(7), **fields)
        state.rng.torch("a")
        if steps:
            state.steps = steps
            train(state, NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(spike=50.0))
        state.extra["average"] = Average(model, 0.5 if steps else 0.25)
        return state

    return build


@pytest.mark.parametrize("part_bytes", [4 << 30, 1000, 1])
def test_everything_comes_back(make: Make, tmp_path: Path, part_bytes: int) -> None:
    """In one file of each kind, in several, and in one for each tensor."""
    state = make(5)
    state.rng.torch("a").seed()
    path = save_checkpoint(state, tmp_path, part_bytes=part_bytes)
    other = make()
    assert not same(snapshot(state), snapshot(other))
    torch.rand(3)
    assert resume(other, tmp_path) == path == tmp_path / "step-000005"
    assert same(snapshot(state), snapshot(other))
    expected_next = torch.rand(2)
    resume(other, tmp_path)
    assert torch.equal(torch.rand(2), expected_next)  # the global generator, too
    files, tensors = len(list(path.glob("model-*.safetensors"))), len(list(state.model.parameters()))
    assert files == tensors if part_bytes == 1 else files == 1 if part_bytes > 1000 else 1 < files < tensors


def test_files_are_plain_safetensors(make: Make, tmp_path: Path) -> None:
    state = make(2)
    path = save_checkpoint(state, tmp_path)
    assert same(load_file(path / "model-00000-000.safetensors"), dict(state.model.named_parameters()))  # tied ones once
    assert sorted(item.name for item in path.iterdir()) == [
        "extra-00000-000.safetensors",
        "manifest.json",
        "model-00000-000.safetensors",
        "optimizer-00000-000.safetensors",
        "rank-00000.json",
        "state.json",
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_any_type_of_number(dtype: torch.dtype, tmp_path: Path) -> None:
    state, other = small(1), small(seed=1)
    for one in (state, other):
        one.model.register_buffer("odd", (torch.arange(7.0) * (one is state)).to(dtype))
        one.model.register_buffer("flag", torch.tensor(one is state))
        one.model.register_buffer("none", torch.empty(0, 3))
        one.model.register_buffer("far", torch.tensor([1.0, float("-inf")]))  # a buffer may be infinite
    save_checkpoint(state, tmp_path)
    resume(other, tmp_path)
    for name, tensor in state.model.named_buffers():
        assert torch.equal(dict(other.model.named_buffers())[name].float(), tensor.float())


def test_weights_alone_are_read_from_a_run(make: Make, tiny: Callable[..., Model], tmp_path: Path) -> None:
    state = make(2)
    save_checkpoint(state, tmp_path)
    model = tiny(seed=8)
    assert load_weights(model, tmp_path) == tmp_path / "step-000002"
    assert same(dict(model.state_dict()), dict(state.model.state_dict()))
    with pytest.raises(UsageError, match="holds no checkpoint"):
        load_weights(model, tmp_path / "none")


def test_nothing_to_resume(make: Make, tmp_path: Path) -> None:
    assert resume(make(), tmp_path / "none") is None


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    state = small(1)
    for step in (1, 9, 10, 999_999, 1_000_000):  # in the order of numbers, not of letters
        state.step = step
        save_checkpoint(state, tmp_path, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-999999", "step-1000000"]
    assert resume(small(), tmp_path) == tmp_path / "step-1000000"


def test_a_refused_later_one_never_pushes_out_the_one_just_saved(tmp_path: Path) -> None:
    """The newest is damaged, the run goes on from the one before and saves below it, with room for one only."""
    state = small(2)
    save_checkpoint(state, tmp_path, keep=9)
    state.step = 9
    newest = save_checkpoint(state, tmp_path, keep=9)
    (newest / "state.json").unlink()
    other = small()
    assert resume(other, tmp_path, lambda text: None) == tmp_path / "step-000002"
    other.step = 3
    save_checkpoint(other, tmp_path, keep=1)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000003"]


def test_another_configuration_or_model_is_refused(
    make: Make, tiny: Callable[..., Model], counting: Any, tmp_path: Path
) -> None:
    save_checkpoint(make(2, fingerprint="one"), tmp_path)
    with pytest.raises(UsageError, match="another configuration"):
        resume(make(fingerprint="two"), tmp_path)
    for dials, why in (({"depth": 3}, "is in only one"), ({"vocab": 40}, r"embed\.weight' is of \[32, 16\] there")):
        other = tiny(**dials)
        state = TrainState(other, Muon(MuonConfig(), other), counting(), 10, fingerprint="one")
        with pytest.raises(UsageError, match=f"another model: .*{why}"):
            resume(state, tmp_path)
    state = make(fingerprint="one")
    state.extra["other"] = state.extra["average"]
    with pytest.raises(UsageError, match="holds no 'other'"):
        resume(state, tmp_path)


def test_if_all_are_damaged_the_run_does_not_start_over_in_silence(make: Make, tmp_path: Path) -> None:
    path = save_checkpoint(make(2), tmp_path)
    (path / "state.json").unlink()
    with pytest.raises(ArtifactError, match=r"every checkpoint.*step-000002.*--resume false"):
        resume(make(), tmp_path, lambda text: None)


def test_another_version_says_so(make: Make, tmp_path: Path) -> None:
    path = save_checkpoint(make(2), tmp_path)
    (path / "manifest.json").write_text(json.dumps({"files": {}, "sha256": "0"}))
    said: list[str] = []
    with pytest.raises(ArtifactError):
        resume(make(), tmp_path, said.append)
    assert "of another version of hanok: its format is not 2" in said[0]


def test_leftovers_of_a_kill_are_swept_by_the_next_run(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    path = save_checkpoint(make(2), folder)
    shutil.copytree(path, folder / ".step-000003.abc.tmp")
    (folder / ".step-000003.abc.tmp" / "manifest.json").unlink()
    shutil.copytree(path, folder / ".step-000001.abc.old")
    assert resume(make(), folder) == path
    with claimed(folder):
        assert [item.name for item in folder.iterdir()] == [path.name]
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoints"]


def test_values_that_are_not_finite_are_never_saved(make: Make, tmp_path: Path) -> None:
    state = make(2)
    path = save_checkpoint(state, tmp_path, keep=1)
    for bad in (float("nan"), float("inf")):
        state.step += 1
        with torch.no_grad():
            state.model.embed.weight[3, 1] = bad
        with pytest.raises(HanokError, match=r"1 values of 'embed\.weight' are not finite"):
            save_checkpoint(state, tmp_path, keep=1)
    with torch.no_grad():
        state.model.embed.weight.fill_(3e38)  # finite, though the sum of them is not
    state.step += 1
    assert checkpoints(tmp_path) == [path]
    assert save_checkpoint(state, tmp_path, keep=1).name == "step-000005"
    assert [item.name for item in tmp_path.iterdir()] == ["step-000005"]


def test_permissions_let_others_read(make: Make, tmp_path: Path) -> None:
    path = save_checkpoint(make(1), tmp_path)
    assert os.stat(path).st_mode & 0o777 == 0o755
    assert all(os.stat(item).st_mode & 0o444 == 0o444 for item in path.iterdir())
