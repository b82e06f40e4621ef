"""Every strategy against one process; most of it takes minutes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import distributed as dist

from hanok.cli import execute
from hanok.core.errors import HanokError, UsageError
from hanok.model.config import ModelConfig
from hanok.train.parallel import replicate, verify
from hanok.train.parallel.local import on_ranks
from hanok.train.parallel.verify import Outcome, Trial, compare

DIALS = {"vocab": 64, "dim": 32, "depth": 4, "heads": 4, "kv_heads": 2, "hidden": 64, "context": 64}
STRATEGIES = ["ddp", "fsdp", "tp", "pp", "ep", "fsdp+tp"]


def trial(kind: str, **more: Any) -> Trial:
    dials = {**DIALS, **more.pop("dials", {})}
    return Trial(ModelConfig.preset(kind, **dials), **more)


def test_experts_on_two_ranks_equal_one_process() -> None:
    small = trial("moe-tiny", steps=2, length=6, rows=4, dials={"depth": 1, "dim": 16, "hidden": 16})
    (found,) = compare(small, ["ep"], 2)
    assert found.agrees, found
    assert found.layout == "expert 2" and found.norm < 1e-5


def test_a_mean_instead_of_a_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean(bucket: Any, group: Any) -> Any:
        work = dist.all_reduce(bucket.buffer().div_(2), group=group, async_op=True)
        assert work is not None
        return work.get_future().then(lambda future: future.value()[0])

    monkeypatch.setattr(replicate, "summed", mean)
    small = trial("llama-tiny", steps=3, length=6, rows=4, lr=1e-2, dials={"depth": 1, "dim": 16, "hidden": 16})
    (found,) = compare(small, ["ddp"], 2)
    assert not found.agrees and found.norm > 0.4, found
    assert found.worst < 1e-5, "losses alone do not show it: clipping and Adam take the factor out again"


def test_the_command_fails_where_a_strategy_differs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    told = {"ddp": Outcome("ddp", "data 4", 3e-7, 1e-6), "pp": Outcome("pp", "pipeline 4", 2e-3, 1e-2)}
    monkeypatch.setattr(verify, "compare", lambda trial, names, size: [told[name] for name in names])
    assert execute(["verify-parallel", "llama-tiny", "depth=4", "--strategies", "ddp"]) == 0
    assert "agrees" in capsys.readouterr().out
    assert execute(["verify-parallel", "llama-tiny", "depth=4", "--strategies", "ddp", "pp"]) == 1
    said = capsys.readouterr()
    assert "DIFFERS" in said.out and "pp: losses or gradients differ" in said.err


def test_a_strategy_asked_for_by_name_must_suit() -> None:
    assert execute(["verify-parallel", "llama-tiny", "--strategies", "ep"]) == 2
    with pytest.raises(UsageError, match=r"unknown strategy 'fdsp'; did you mean 'fsdp'"):
        verify.layout_of("fdsp", trial("llama-tiny").config, 2)


def test_an_error_on_a_rank_is_raised_here() -> None:
    def fails() -> None:
        raise ValueError("of this rank alone")

    with pytest.raises(HanokError, match="of this rank alone"):
        on_ranks(fails, 1)
    assert on_ranks(torch.get_num_threads, 1) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama-tiny", "moe-tiny"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_four_processes_equal_one(kind: str, strategy: str) -> None:
    if strategy == "ep" and kind == "llama-tiny":
        pytest.skip("no experts")
    (found,) = compare(trial(kind), [strategy], 4)
    assert found.agrees, found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["hsdp", "ddp+pp", "cp"])
def test_other_layouts_equal_one_process(strategy: str) -> None:
    (found,) = compare(trial("llama-tiny"), [strategy], 4)
    assert found.agrees, found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "pp", "tp", "cp"])
def test_a_loss_that_never_holds_all_logits(strategy: str) -> None:
    (found,) = compare(trial("llama-tiny", logits="pieces", steps=5), [strategy], 2)
    assert found.agrees, found


@pytest.mark.slow
def test_as_many_ranks_as_heads() -> None:
    (found,) = compare(trial("llama-tiny", dials={"kv_heads": 4}), ["tp"], 4)
    assert found.agrees and found.layout == "tensor 4", found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fsdp", "tp", "fsdp+tp", "pp"])
def test_muon_equals_one_process(strategy: str) -> None:
    (found,) = compare(trial("llama-tiny", optimizer="muon", lr=0.02), [strategy], 4)
    assert found.worst < 1e-4, found  # it multiplies in bfloat16, which rounds what a sum's order changes
