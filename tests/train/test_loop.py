"""The loop: accumulation, clipping, the guard against steps that would ruin a model, stopping, and that it learns."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import HanokError, Interrupted, UsageError
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.hook import Hook, Record
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.optim.base import Optimizer
from hanok.train.optim.muon import Muon, MuonConfig
from hanok.train.schedule.constant import Constant
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState

Tiny = Callable[..., Model]
CLM = NextToken(NextToken.Config())
FLAT = Constant(Constant.Config(warmup=0.0))


class Recorder(Hook):
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.called: list[str] = []

    def start(self, state: TrainState) -> None:
        self.called.append("start")

    def after_step(self, state: TrainState, record: Record) -> None:
        self.records.append(dict(record))

    def finish(self, state: TrainState) -> None:
        self.called.append("finish")

    def stop(self, state: TrainState) -> None:
        self.called.append("stop")


def run(
    model: Model, source: Any, steps: int, *hooks: Hook, lr: float = 1e-2, **loop: Any
) -> tuple[TrainState, Record]:
    state = TrainState(model, AdamW(AdamWConfig(lr=lr), model), source, steps)
    return state, train(state, CLM, FLAT, LoopConfig(**loop), hooks)


def flat(model: Model) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    ("kind", "compute"),
    [
        *(("llama-tiny", compute) for compute in ("float32", "mixed", "bfloat16")),
        ("rglru-tiny", "float32"),
        *(pytest.param("rglru-tiny", compute, marks=pytest.mark.slow) for compute in ("mixed", "bfloat16")),
        *(
            pytest.param("griffin-tiny", compute, marks=pytest.mark.slow)
            for compute in ("float32", "mixed", "bfloat16")
        ),
    ],
)
def test_learns_a_tiny_problem(kind: str, compute: str, tiny: Tiny, counting: Any) -> None:
    model = tiny(kind, depth=3 if kind == "griffin-tiny" else 2)
    before = flat(model)
    names = [name for name, _ in model.named_parameters()]
    first = [parameter.detach().clone() for parameter in model.parameters()]
    seen = Recorder()
    state = TrainState(model, Muon(MuonConfig(lr=0.05, adamw=AdamWConfig(lr=0.05)), model), counting(8), 60)
    train(state, CLM, Linear(Linear.Config()), LoopConfig(compute=compute), [seen])  # type: ignore[arg-type]
    assert seen.records[0]["loss"] > 3.0
    assert seen.records[-1]["loss"] < 0.7
    assert seen.records[-1]["mean_token_accuracy"] > 0.85
    stuck = [n for n, a, b in zip(names, first, model.parameters(), strict=True) if torch.equal(a, b)]
    assert not stuck
    assert not torch.equal(before, flat(model))


class Parts:
    """A source that hands out given batches in turn."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.at = batches, 0

    def next_batch(self) -> Batch:
        self.at += 1
        return self.batches[(self.at - 1) % len(self.batches)]

    def state(self) -> dict[str, Any]:
        return {"at": self.at}

    def restore(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


def halves(batch: Batch, cut: int) -> list[Batch]:
    return [
        Batch(batch.tokens[s], batch.targets[s], batch.weights[s], batch.positions[s])
        for s in (slice(None, cut), slice(cut, None))
    ]


def test_accumulation_equals_the_big_batch(tiny: Tiny, rows: Callable[..., Batch]) -> None:
    """Parts of unequal size and weight; a plain mean of means is the control, and differs."""
    big = rows(batch=6)
    whole, parts = Recorder(), Recorder()
    run(one := tiny(), Parts([big]), 1, whole)
    run(two := tiny(), Parts(halves(big, 1)), 1, parts, accumulate=2)
    for name in ("loss", "grad_norm", "mean_token_accuracy", "num_tokens"):
        assert parts.records[0][name] == pytest.approx(whole.records[0][name], rel=1e-5), name
    # AdamW's first step has the size of the learning rate, whatever the gradient; rounding may move a hundredth of it.
    torch.testing.assert_close(flat(one), flat(two), rtol=0, atol=1e-4)
    mean_of_means = sum(CLM(tiny(), part)[0].item() for part in halves(big, 1)) / 2
    assert abs(mean_of_means - whole.records[0]["loss"]) > 1e-3


def test_clipping_equals_torch(tiny: Tiny, rows: Callable[..., Batch]) -> None:
    ours, theirs = tiny(), tiny()
    sgd = torch.optim.SGD(theirs.parameters(), lr=1.0)
    CLM(theirs, rows())[0].backward()
    norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
    sgd.step()
    state = TrainState(ours, _SGD(ours), Parts([rows()]), 1)
    record = train(state, CLM, FLAT, LoopConfig(clip=0.1))
    assert record["grad_norm"] == pytest.approx(norm.item(), rel=1e-6)
    assert norm > 0.1
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=1e-6, atol=1e-7)


class _SGD(Optimizer):
    """The plainest optimiser, for tests that read gradients off the parameters."""

    lr = 1.0

    def __init__(self, model: Model) -> None:
        self.parameters = list(model.parameters())

    def step(self, factor: float) -> None:
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.sub_(self.lr * factor * parameter.grad)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        return None


class Poisoned(Parts):
    """Multiplies the weights of chosen batches, which multiplies nothing but the gradient's health."""

    def __init__(self, source: Any, bad: dict[int, float]) -> None:
        super().__init__([])
        self.source, self.bad = source, bad

    def next_batch(self) -> Batch:
        self.at += 1
        batch: Batch = self.source.next_batch()
        if self.at - 1 not in self.bad:
            return batch
        weights = batch.weights.clone()
        weights[0, 0] = self.bad[self.at - 1]
        return replace(batch, weights=weights)


class Without(Parts):
    """The same batches with some left out: what a skipped step must be equal to."""

    def __init__(self, source: Any, skip: set[int]) -> None:
        super().__init__([])
        self.source, self.skip = source, skip

    def next_batch(self) -> Batch:
        while self.at in self.skip:
            self.source.next_batch()
            self.at += 1
        self.at += 1
        batch: Batch = self.source.next_batch()
        return batch


@pytest.mark.parametrize("bad", [math.nan, math.inf, pytest.param(-math.inf, marks=pytest.mark.slow)])
def test_a_step_that_is_not_finite_is_as_if_it_had_never_been(bad: float, tiny: Tiny, counting: Any) -> None:
    """Random places; the parameters, moments and step counts equal those of a run that never saw the batch."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        at = set(torch.randperm(12, generator=generator)[:3].tolist())
        if max(at) - min(at) < 3 and len(at) == 3:
            at = {min(at), max(at)}
        seen = Recorder()
        state, _ = run(one := tiny(), Poisoned(counting(), dict.fromkeys(at, bad)), 12, seen)
        run(two := tiny(), Without(counting(), at), 12 - len(at))
        assert torch.equal(flat(one), flat(two))
        assert state.skipped == len(at)
        assert state.source.at == 12  # the data moved on
        assert [i for i, r in enumerate(seen.records) if not math.isfinite(r["loss"])] == sorted(at)


def test_control_without_the_guard_a_bad_step_ruins_the_model(
    tiny: Tiny, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanok.train.loop._refuse", lambda state, record, config: "")
    run(model := tiny(), Poisoned(counting(), {3: math.nan}), 6)
    assert not flat(model).isfinite().all()


def test_three_bad_steps_in_a_row_end_the_run(tiny: Tiny, counting: Any) -> None:
    model = tiny()
    with pytest.raises(HanokError, match=r"step 7: loss nan.*3 steps in a row.*learning rate"):
        run(model, Poisoned(counting(), dict.fromkeys((4, 5, 6), math.nan)), 12)
    assert flat(model).isfinite().all()
    run(tiny(), Poisoned(counting(), dict.fromkeys((4, 5, 7, 8, 10, 11), math.nan)), 12)  # never three in a row


def test_a_batch_without_weight_is_no_step(tiny: Tiny, counting: Any) -> None:
    class Empty(Parts):
        def next_batch(self) -> Batch:
            batch: Batch = counting().next_batch()
            return replace(batch, weights=torch.zeros_like(batch.weights))

    with pytest.raises(HanokError, match="3 steps in a row"):
        run(tiny(), Empty([]), 5)


def test_a_spike_is_skipped_and_a_control_is_not(tiny: Tiny, counting: Any) -> None:
    class Spiking:
        """An objective whose gradient is a thousand times too large at one step."""

        needs: tuple[str, ...] = ()
        calls = 0

        def count(self, batch: Batch) -> Tensor:
            return CLM.count(batch)

        def __call__(self, policy: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            self.calls += 1
            loss, metrics = CLM(policy, batch)
            return loss * (1000 if self.calls == 30 else 1), metrics

    for spike, skipped in ((20.0, 1), (None, 0)):
        model = tiny()
        state = TrainState(model, AdamW(AdamWConfig(), model), counting(), 40)
        train(state, Spiking(), FLAT, LoopConfig(spike=spike))
        assert state.skipped == skipped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step(number: int, tiny: Tiny, counting: Any) -> None:
    class Stop(Hook):
        def after_step(self, state: TrainState, record: Record) -> None:
            if state.step == 4:
                os.kill(os.getpid(), number)

    seen = Recorder()
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after step 4 of 9") as caught:
        run(tiny(), counting(), 9, seen, Stop())
    assert caught.value.exit_code == 130
    assert seen.called == ["start", "stop"]
    assert len(seen.records) == 4
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait(tiny: Tiny, counting: Any) -> None:
    class Twice(Hook):
        def after_step(self, state: TrainState, record: Record) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tiny(), counting(), 9, Twice())


def test_runs_outside_the_main_thread(tiny: Tiny, counting: Any) -> None:
    done: list[Record] = []
    thread = threading.Thread(target=lambda: done.append(run(tiny(), counting(), 3)[1]))
    thread.start()
    thread.join()
    assert done[0]["num_tokens"] == 3 * 4 * 12


def test_settings_are_put_back(tiny: Tiny, counting: Any) -> None:
    before = torch.get_float32_matmul_precision()

    class Look(Hook):
        def after_step(self, state: TrainState, record: Record) -> None:
            assert torch.get_float32_matmul_precision() == "medium"

    run(tiny(), counting(), 2, Look(), compute="mixed")
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(UsageError, match="exact numerics"):
        run(tiny(), counting(), 2, numerics="exact", compute="bfloat16")
