"""The plan's figures are those of the counts they come from; wrong wishes are refused."""

from __future__ import annotations

import json

import pytest

from hanok.cli import execute
from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.size import count
from hanok.train.plan.forecast import Means, forecast
from hanok.train.plan.hardware import Hardware, find, known
from hanok.train.stages import PretrainConfig

MODEL = ModelConfig.preset("llama-tiny", vocab=128, dim=32, depth=2, heads=4)
CONFIG = PretrainConfig.parse({"steps": 1, "batch": 4, "length": 32})
ROOMY = Hardware("a device", 1e12, 10**9, "made up")


def test_time_is_operations_over_speed_and_cost_is_time_times_price() -> None:
    found = forecast(MODEL, CONFIG, 1e9, Means(ROOMY, devices=2, mfu=0.5, price=3.0))
    flops = count(MODEL).training_flops_per_token(32)
    assert found["flops"] == flops * 1e9 and found["fits"]
    assert found["hours"] == pytest.approx(flops * 1e9 / (2 * 1e12 * 0.5) / 3600)
    assert found["cost"] == pytest.approx(found["hours"] * 2 * 3.0)
    assert found["steps"] == -(-(10**9) // 128) and found["step_seconds"] * found["steps"] == pytest.approx(
        found["hours"] * 3600, rel=1e-6
    )


def test_without_a_share_of_the_peak_steps_are_timed() -> None:
    found = forecast(MODEL, CONFIG, 1e6, Means(ROOMY))
    assert found["measured"] and found["tokens_per_second"] > 0
    assert found["mfu"] == pytest.approx(found["tokens_per_second"] * found["flops_per_token"] / 1e12)


def test_what_does_not_fit_is_said_and_not_tried() -> None:
    small = Hardware("a device", 1e12, 1000, "made up")
    assert not forecast(MODEL, CONFIG, 1e6, Means(small, mfu=0.4))["fits"]
    with pytest.raises(UsageError, match="fit"):
        forecast(MODEL, CONFIG, 1e6, Means(small))


def test_wrong_wishes_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'h100'"):
        find("h10")
    with pytest.raises(UsageError, match="at least one device"):
        Means(ROOMY, devices=0)
    with pytest.raises(UsageError, match="devices"):
        forecast(MODEL, CONFIG, 1e6, Means(ROOMY, devices=3, mfu=0.4))


def test_named_devices_say_where_their_figures_come_from() -> None:
    assert all(row.flops > 1e13 and row.memory > 10**10 and row.source for row in known().values())


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", "train", "llama-tiny", "depth=2", "batch=2", "length=32", "--tokens", "20x", "--hardware", "h100"]
    assert execute([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == 20 * found["parameters"] and found["mfu"] == pytest.approx(0.4)
    assert execute([*argv, "--price", "2"]) == 0 and "cost" in capsys.readouterr().out
    assert execute(["plan", "train", "llama-tiny", "--tokens", "many"]) == 2
    assert "no number" in capsys.readouterr().err
    assert execute(["plan", "train", "llama-tiny", "batch=x"]) == 2
