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
    if kind != "restarts":
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


def test_restarts_equal_torch() -> None:
    """210 steps in cycles of 30, 60 and 120."""
    part = SCHEDULES["restarts"]
    ours = part(part.Config.parse({"kind": "restarts", "warmup": 0.0, "cycles": 3, "growth": 2.0, "final": 0.1}))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=30, T_mult=2, eta_min=0.1)
    for step in range(210):
        assert ours(step, 210) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()
    assert ours.ends(210) == [30, 90, 210]


def test_restarts_fill_the_run_and_may_peak_lower() -> None:
    part = SCHEDULES["restarts"]
    ours = part(part.Config.parse({"kind": "restarts", "warmup": 0.1, "cycles": 4, "growth": 1.0, "peak": 0.5}))
    ends = ours.ends(TOTAL)
    assert ends[-1] == TOTAL and len(ends) == 4
    assert [ours(end, TOTAL) for end in ends[:-1]] == pytest.approx([0.5, 0.25, 0.125])
    assert all(ours(end - 1, TOTAL) < 0.01 for end in ends)
    assert factors("restarts", cycles=1, warmup=0.1) == factors("cosine", warmup=0.1)


def test_power_is_the_inverse_square_root_of_the_first_transformer() -> None:
    """Vaswani et al. 2017: dim^-0.5 min(s^-0.5, s w^-1.5), here over its largest value, which it has at s = w."""
    ours = factors("power", warmup=0.1, exponent=0.5, decay=0.0)
    w = 20
    theirs = [min(s**-0.5, s * w**-1.5) / w**-0.5 for s in range(1, TOTAL + 1)]
    assert ours == pytest.approx(theirs)
    ending = factors("power", warmup=0.1, exponent=0.5, decay=0.25, final=0.0)
    assert ending[:151] == pytest.approx(theirs[:151])
    assert ending[175] == pytest.approx(theirs[175] / 2)


def test_shares_must_fit_one_run() -> None:
    for kind in ("wsd", "power"):
        with pytest.raises(UsageError, match="above 1"):
            SCHEDULES[kind].Config.parse({"kind": kind, "warmup": 0.6, "decay": 0.6})
