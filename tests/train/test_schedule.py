"""Schedules are pure functions of the step."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.train.schedule import SCHEDULES

TOTAL = 200


def factors(kind: str, **options: float) -> list[float]:
    part = SCHEDULES[kind]
    schedule = part(part.Config.parse({"kind": kind, **options}))
    return [schedule(step, TOTAL) for step in range(TOTAL)]


@pytest.mark.parametrize("kind", list(SCHEDULES))
def test_warms_up_in_a_line_and_stays_in_bounds(kind: str) -> None:
    values = factors(kind, warmup=0.1)
    assert values[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert values[19] == 1.0 == max(values)
    assert min(values) > 0  # no step is wasted on a rate of zero
    assert all(b <= a for a, b in itertools.pairwise(values[19:]))
    assert factors(kind, warmup=0.1) == values
    assert factors(kind, warmup=0.0)[0] == 1.0


def test_shapes() -> None:
    assert factors("constant", warmup=0.1)[20:] == [1.0] * 180
    assert factors("linear", warmup=0.0, final=0.1)[100] == pytest.approx(0.55)
    assert factors("cosine", warmup=0.0)[50] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    wsd = factors("wsd", warmup=0.1, decay=0.25)
    assert wsd[20:151] == [1.0] * 131
    assert wsd[175] == pytest.approx(0.5)


def test_cosine_equals_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, eta_min=0.2)
    for ours in factors("cosine", warmup=0.0, final=0.2):
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_shares_must_fit_one_run() -> None:
    with pytest.raises(UsageError, match="above 1"):
        SCHEDULES["wsd"].Config.parse({"kind": "wsd", "warmup": 0.6, "decay": 0.6})
