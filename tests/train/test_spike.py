"""The guard: a bad step is as if it had never been, what it saw is kept, and it can be taken again."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hanok.cli import execute
from hanok.core.artifact import ArtifactError
from hanok.core.errors import HanokError, UsageError
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.hook import Hook, Record
from hanok.train.hook.spike import BATCHES, BUNDLE, WEIGHTS, Spike, bundles
from hanok.train.loop import LoopConfig, train, update
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.replay import replay, verdict
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState

Tiny = Callable[..., Model]
CLM = NextToken(NextToken.Config())
LINEAR = Linear(Linear.Config())
STEPS, FREE = 80, 20  # no fault in the first steps: a spike needs something to be measured against
DIALS = {"dim": 16, "depth": 1}


class Faulty:
    """Next-token prediction whose gradient goes wrong at chosen calls, as on a machine with a bad memory."""

    needs: tuple[str, ...] = ()
    config = CLM.config

    def __init__(self, at: Sequence[int], fault: float) -> None:
        self.at, self.fault, self.calls = set(at), fault, 0

    def count(self, batch: Batch) -> Tensor:
        return CLM.count(batch)

    def __call__(self, policy: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = CLM(policy, batch)
        self.calls += 1
        if self.calls - 1 in self.at:
            (metrics := dict(metrics)).update(real_loss=loss.detach())
            loss = loss.detach() + self.fault * (loss - loss.detach())  # the loss is right, the gradient is not
        return loss, metrics


class Factors(Hook):
    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def after_step(self, state: TrainState, record: Record) -> None:
        self.seen.append((record["lr_factor"], int(record["skipped"])))


def fresh(tiny: Tiny, source: Any, steps: int = STEPS) -> TrainState:
    model = tiny(**DIALS)
    return TrainState(model, AdamW(AdamWConfig(lr=1e-2), model), source, steps)


def all_of(state: TrainState) -> list[Tensor]:
    moments, _ = state.optimizer.state()
    return [*(p.detach() for p in state.model.parameters()), *(moments[name] for name in sorted(moments))]


@pytest.mark.parametrize("fault", [math.nan, pytest.param(math.inf, marks=pytest.mark.slow), 1000.0])
def test_fifty_random_bad_steps_are_as_if_they_had_never_been(fault: float, tiny: Tiny, counting: Any) -> None:
    """Parameters, moments, step counts and the schedule equal those of a run that never saw these batches."""
    at = sorted(random.Random(str(fault)).sample(range(FREE, STEPS), 50))  # many of them in a row
    config, factors = LoopConfig(spike=20.0, patience=STEPS), Factors()
    state = fresh(tiny, counting(2, 8))
    train(state, Faulty(at, fault), LINEAR, config, [factors])
    assert state.skipped == 50
    control, kept = fresh(tiny, counting(2, 8)), []
    for step in range(STEPS):
        if step in at:
            control.source.next_batch()
            continue
        kept.append(LINEAR(control.step, STEPS))
        update(control, CLM, config, kept[-1])
        control.step += 1
    assert all(torch.equal(a, b) for a, b in zip(all_of(state), all_of(control), strict=True))
    assert [factor for step, (factor, _) in enumerate(factors.seen) if step not in at] == kept
    assert state.norms == control.norms and state.source.state() == control.source.state()


def test_control_without_the_guard_the_same_faults_ruin_the_model(
    tiny: Tiny, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanok.train.loop._refuse", lambda state, record, config: "")
    for fault in (math.nan, math.inf, 1000.0):
        one, two = fresh(tiny, counting(2, 8), 24), fresh(tiny, counting(2, 8), 24)
        train(one, Faulty([21], fault), LINEAR, LoopConfig(spike=20.0))
        train(two, Faulty([], fault), LINEAR, LoopConfig(spike=20.0))
        assert not all(torch.equal(a, b) for a, b in zip(all_of(one), all_of(two), strict=True))
        assert all(p.isfinite().all() for p in one.model.parameters()) == (fault == 1000.0)


def refused(tiny: Tiny, source: Any, objective: Any, folder: Path, steps: int = 30, **loop: Any) -> TrainState:
    state, config = fresh(tiny, source, steps), LoopConfig(**loop)
    train(state, objective, LINEAR, config, [Spike(folder, objective, config, say=lambda _: None)])
    return state


class Poisoned:
    """Batches of which one has a bad number."""

    def __init__(self, source: Any, at: int) -> None:
        self.source, self.at, self.drawn = source, at, 0

    def next_batch(self) -> Batch:
        batch: Batch = self.source.next_batch()
        self.drawn += 1
        if self.drawn - 1 != self.at:
            return batch
        weights = batch.weights.clone()
        weights[1, 3] = math.nan
        return replace(batch, weights=weights)

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


def test_a_bundle_shows_the_bad_row(tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    refused(tiny, Poisoned(counting(4, 8), 5), CLM, tmp_path, steps=8)
    (path,) = bundles(tmp_path)
    assert path.name == "step-000006"
    told = json.loads((path / BUNDLE).read_text())
    assert told["source"] == {"drawn": 5} and told["record"]["loss"] == "nan" and told["torch_rng"]
    assert told["sha256"].keys() == {BATCHES, WEIGHTS} and all(v["not_finite"] for v in told["layers"].values())
    found = replay(path)
    assert found.repeats and found.causes[0].startswith("batch 0: weights has 1 numbers that are not finite")
    assert "[1, 3]" in verdict(found)
    assert (found.rows[0].row, math.isnan(found.rows[0].loss)) == (1, True)
    assert all(math.isfinite(row.norm) for row in found.rows[1:])


def test_a_fault_that_lies_in_no_number_does_not_repeat(tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    refused(tiny, counting(2, 8), Faulty([25], 1000.0), tmp_path, spike=20.0)
    found = replay(bundles(tmp_path)[0])
    assert not found.repeats and not found.causes
    assert "it does not repeat" in verdict(found)
    assert found.recorded["grad_norm"] == pytest.approx(1000 * found.again["grad_norm"], rel=1e-4)
    was, now = found.layers["blocks.0.mixer.q.weight"]
    assert was == pytest.approx(1000 * now, rel=1e-3)


def test_bad_weights_and_the_first_bad_layer_are_named(tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    class Break(Hook):
        def after_step(self, state: TrainState, record: Record) -> None:
            if state.step == 3:
                with torch.no_grad():
                    state.model.get_parameter("blocks.0.ffn.down.weight")[2, 5] = math.inf

    config = LoopConfig()
    state = fresh(tiny, counting(2, 8), 9)
    with pytest.raises(HanokError, match="3 steps in a row"):
        train(state, CLM, LINEAR, config, [Break(), Spike(tmp_path, CLM, config, say=lambda _: None)])
    found = replay(bundles(tmp_path)[0])
    assert found.causes[0].startswith("weights: blocks.0.ffn.down.weight has 1 numbers")
    assert found.causes[-1] == "forward: the output of blocks.0.ffn.down is the first that is not finite"
    # Three refused steps on the same weights: one file.
    files = [path / WEIGHTS for path in bundles(tmp_path)]
    assert len(files) == 3 and len({file.stat().st_ino for file in files}) == 1


def test_the_newest_bundles_stay_and_damage_is_noticed(tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    refused(tiny, counting(2, 8), Faulty([2, 4, 6, 8, 10], math.nan), tmp_path, steps=12)
    paths = bundles(tmp_path)
    assert [path.name for path in paths] == ["step-000007", "step-000009", "step-000011"]
    assert len({(path / WEIGHTS).stat().st_ino for path in paths}) == 3
    raw = bytearray((paths[0] / BATCHES).read_bytes())
    raw[-1] ^= 1
    (paths[0] / BATCHES).write_bytes(raw)
    with pytest.raises(ArtifactError, match="sha256 differs"):
        replay(paths[0])
    with pytest.raises(UsageError, match=r"bundle\.json is missing"):
        replay(tmp_path)


def test_a_full_disk_does_not_end_the_run(
    tiny: Tiny, counting: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hanok.train.hook.spike.save_file", full)
    assert refused(tiny, counting(2, 8), Faulty([2], math.nan), tmp_path, steps=4).step == 4
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate that ruins the first step: three refusals, exit code 1, and a bundle that says so."""
    texts = ["some words to learn from, again and again"] * 20
    tokenizer = Tokenizer.train(texts, vocab_size=270)
    tokenizer.save(tmp_path / "data")
    write_shards(tmp_path / "data" / "train", map(tokenizer.encode_document, texts), vocab_size=270)
    command = ["pretrain", "--data", str(tmp_path / "data"), "-o", str(tmp_path / "runs"), "--quiet", "steps=9"]
    dials = ["batch=2", "length=16", "dials.dim=16", "dials.depth=1", "dials.heads=2", "dials.kv_heads=1"]
    ruin = ["optimizer.kind=adamw", "optimizer.lr=1e36", "schedule.kind=constant", "schedule.warmup=0"]
    assert execute([*command, *dials, *ruin]) == 1
    assert "3 steps in a row had to be skipped" in capsys.readouterr().err
    (folder,) = tmp_path.glob("runs/pretrain-*.partial/refused")
    paths = bundles(folder)
    assert [path.name for path in paths] == ["step-000002", "step-000003", "step-000004"]
    assert all(tensor.isfinite().all() for tensor in load_file(paths[0] / WEIGHTS).values())
    assert execute(["replay", str(paths[0]), "--tokenizer", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert "backward: gradients are not finite" in shown and "words to learn" in shown
    assert execute(["replay", str(paths[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repeats"] is True
    assert execute(["replay", str(tmp_path)]) == 2
