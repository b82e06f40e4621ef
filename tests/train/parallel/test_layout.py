"""Layouts, slices of a batch, stages and plans, as far as one process can see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.router.sigmoid_group import SigmoidGroup
from hanok.text.batch import Batch
from hanok.train.loop import LoopConfig
from hanok.train.parallel.config import ParallelConfig, Place, place
from hanok.train.parallel.context import stretch
from hanok.train.parallel.pipeline import keep_stage, layers_of
from hanok.train.parallel.team import Slice, check
from hanok.train.parallel.tensor import split_tensor
from hanok.train.parallel.torchrun import words
from hanok.train.parallel.verify import Trial, layout_of, losses
from hanok.train.stages import PretrainConfig


class Mesh:
    """A mesh of which one process only is asked where it stands."""

    def __init__(self, **axes: tuple[int, int]) -> None:
        self.axes = axes

    def get_local_rank(self, axis: str) -> int:
        return self.axes.get(axis, (0, 1))[0]

    def __getitem__(self, axis: str) -> Mesh:
        return Mesh(here=self.axes.get(axis, (0, 1)))

    def size(self) -> int:
        return self.axes["here"][1]


def config(kind: str = "llama-tiny", **dials: int) -> ModelConfig:
    return ModelConfig.preset(kind, **{"vocab": 32, "dim": 16, "depth": 3, "heads": 4, "kv_heads": 2, **dials})


def test_a_layout_is_no_part_of_what_a_run_is() -> None:
    one, many = (PretrainConfig(steps=1, parallel=ParallelConfig(data=n)) for n in (1, 4))
    assert one.digest() == many.digest() and "parallel" not in many.to_dict()
    assert many.parallel.size == 4 and many.parallel.describe() == "data 4"


def test_place_is_what_the_launcher_says() -> None:
    assert place({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Place(5, 8, 1)
    assert place({"RANK": "5"}) == Place(0, 1, 0)


def test_slices_of_all_ranks_are_the_batch(rows: Callable[..., Batch]) -> None:
    whole = rows(8, 10)
    seen = torch.zeros_like(whole.tokens)
    for data in range(2):
        for shard in range(2):
            for context in range(3):
                source: Any = type("Source", (), {"next_batch": lambda self: whole})()
                mesh: Any = Mesh(data=(data, 2), shard=(shard, 2), context=(context, 3))
                part = Slice(source, mesh).next_batch()
                assert part.tokens.shape == (2, 4)
                at = slice(4 * data + 2 * shard, 4 * data + 2 * shard + 2)
                columns = slice(4 * context, min(10, 4 * context + 4))
                assert torch.equal(part.tokens[:, : columns.stop - columns.start], whole.tokens[at, columns])
                assert torch.equal(part.positions[0, :2], whole.positions[0, columns][:2])
                seen[at, columns] += 1
    assert bool((seen == 1).all())


def test_a_padded_stretch_carries_no_weight(rows: Callable[..., Batch]) -> None:
    batch = rows(2, 10)
    parts = [stretch(batch, rank, 4) for rank in range(4)]
    assert torch.equal(torch.cat([part.weights for part in parts], 1)[:, :10], batch.weights)
    assert float(parts[3].weights[:, 1:].sum()) == 0


def test_rows_that_ranks_cannot_share_are_refused(rows: Callable[..., Batch]) -> None:
    source: Any = type("Source", (), {"batch": 6, "next_batch": lambda self: rows(6)})()
    mesh: Any = Mesh(data=(0, 4))
    with pytest.raises(UsageError, match="6 rows cannot be shared evenly by 4 ranks"):
        Slice(source, mesh)


@pytest.mark.parametrize("depth", [3, 4, 7])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_stages_are_all_layers_in_their_order(depth: int, stages: int) -> None:
    parts = [layers_of(depth, stage, stages) for stage in range(stages)]
    assert [layer for part in parts for layer in part] == list(range(depth))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_stages_hold_every_parameter_once_but_the_tied_one() -> None:
    whole = Model(config())
    held = []
    for stage in range(3):
        part = Model(config())
        keep_stage(part, stage, 3)
        held += [name for name, _ in part.named_parameters()]
    assert set(held) == {name for name, _ in whole.named_parameters()}
    assert [name for name in set(held) if held.count(name) > 1] == ["embed.weight"]


def test_heads_that_do_not_divide_are_refused() -> None:
    mesh: Any = Mesh(here=(0, 4))
    with pytest.raises(UsageError, match=r"blocks\.0\.mixer has 2 key heads, which 4 ranks cannot share evenly"):
        split_tensor(Model(config()), mesh)
    with pytest.raises(UsageError, match="has 3 heads"):
        split_tensor(Model(config(heads=3, kv_heads=3, dim=24)), mesh)
    with pytest.raises(UsageError, match="hidden width of 34"):
        split_tensor(Model(config(kv_heads=4, hidden=34)), mesh)


@pytest.mark.parametrize(
    "layout,message",
    [({"pipeline": 2, "shard": 2}, "pipeline goes with"), ({"tensor": 2}, "numerics 'exact' keeps whole")],
)
def test_layouts_that_nothing_serves_are_refused(layout: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(Model(config()), ParallelConfig(**layout), LoopConfig(numerics="exact"))


def test_shared_parts_are_not_divided() -> None:
    model = Model(config())
    model.shared = torch.nn.ModuleDict()
    with pytest.raises(UsageError, match="parts that layers share"):
        check(model, ParallelConfig(tensor=2), LoopConfig())
    check(model, ParallelConfig(shard=2), LoopConfig())


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(UsageError, match="3 layers make at most 3 stages"):
        keep_stage(Model(config()), 0, 4)


def test_a_layout_without_its_processes_says_how_to_start_them() -> None:
    trial = Trial(config(), steps=1)
    with pytest.raises(UsageError, match="--nproc-per-node=2"):
        losses(trial, ParallelConfig(data=2))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "hsdp", "tp", "pp", "ep", "cp", "fsdp+tp", "ddp+pp"])
def test_every_strategy_uses_all_processes(strategy: str) -> None:
    assert layout_of(strategy, config("moe-tiny", depth=4), 4).size == 4


def test_one_machine_needs_no_place_to_meet() -> None:
    assert "--standalone" in words(["pretrain"], ["--nproc-per-node=2"])
    several = words(["pretrain", "steps=3"], ["--nnodes=2", "--nproc-per-node=2"])
    assert "--standalone" not in several and several[-4:] == ["-m", "hanok", "pretrain", "steps=3"]


def test_router_biases_move_by_the_loads_of_all_ranks() -> None:
    router = SigmoidGroup(SigmoidGroup.Config(per_token=1), 4, 2)
    router._loads = torch.tensor([3, 1])
    others = torch.tensor([0, 9])

    def total(loads: Tensor) -> Tensor:
        return loads + others

    router.rebalance(total)
    assert router.bias[0] > 0 > router.bias[1], "alone, this rank would have moved them the other way"
