"""The sweep over widths and rates: where a curve is lowest, how far that moves, and a sweep from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.recipes.widths import WIDTHS_STAGE, WidthsConfig, as_csv, as_markdown, lowest, moved, verdict
from hanok.recipes.widths_page import write_page
from hanok.report.figure.widths import widths_figure
from hanok.text.data.prepare import DataConfig
from hanok.text.stages import DATA

RATES = [2.0**-k for k in range(10, 4, -1)]
QUIET = Log(None, quiet=True)


def curve(best: float, bottom: float = 3.0) -> list[float | None]:
    return [bottom + 0.1 * (math.log2(rate) - best) ** 2 for rate in RATES]


def test_the_vertex_of_a_parabola_is_found() -> None:
    found = lowest(RATES, curve(-7.3))
    assert math.log2(found["best_rate"]) == pytest.approx(-7.3)
    assert not found["edge"]
    uneven = [0.001, 0.004, 0.02, 0.03]
    losses: list[float | None] = [2 + (math.log2(rate) + 6.5) ** 2 for rate in uneven]
    assert math.log2(lowest(uneven, losses)["best_rate"]) == pytest.approx(-6.5)


def test_edges_and_runs_that_diverged_are_said() -> None:
    assert lowest(RATES, curve(-12.0)) == {"best_rate": RATES[0], "best_loss": curve(-12.0)[0], "edge": True}
    broken = curve(-7.0)
    broken[4:] = [None, None]
    assert lowest(RATES, broken)["edge"] and lowest(RATES, broken)["best_rate"] == RATES[3]
    assert lowest(RATES, [None] * 6)["best_rate"] is None


def test_the_verdict_tells_staying_from_moving() -> None:
    def row(width: int, losses: list[float | None]) -> dict[str, Any]:
        return {"arm": "plain", "width": width, "losses": losses, **lowest(RATES, losses)}

    still = moved([row(32, curve(-7.0)), row(128, curve(-7.2))], RATES)
    assert still["octaves"] == pytest.approx(-0.2) and still["times_wider"] == 4
    assert "stays put" in verdict("mup", still)
    shifted = moved([row(32, curve(-6.0)), row(128, curve(-9.0))], RATES)
    assert shifted["regret"] == pytest.approx(0.9)
    assert "moves (times 0.12)" in verdict("plain", shifted)
    gone = curve(-9.0)
    gone[4:] = [None, None]
    assert "diverges" in verdict("plain", moved([row(32, curve(-6.0)), row(128, gone)], RATES))
    with pytest.raises(UsageError, match="diverged"):
        moved([row(32, [None] * 6), row(64, curve(-7.0))], RATES)


def test_config_refuses_what_is_no_sweep() -> None:
    for options, why in (
        ({"widths": [64]}, "two widths"),
        ({"rates": [0.1, 0.01, 0.001]}, "upwards"),
        ({"dials": {"dept": 2}}, "dept"),
    ):
        with pytest.raises(UsageError, match=why):
            WidthsConfig.parse(options)
    config = WidthsConfig.parse({"optimizer": "muon"})
    recipe = config.recipe("mup", 64, 0.04, 0)
    assert recipe.optimizer.lr == 0.04 and recipe.optimizer.model_dump()["adamw"]["lr"] == pytest.approx(0.016)
    assert recipe.transfer is not None and config.recipe("plain", 64, 0.04, 0).transfer is None
    assert config.recipe("mup", 32, 0.04, 0) == config.recipe("plain", 32, 0.04, 0)  # the base is one run


@pytest.mark.slow
def test_a_sweep_from_end_to_end(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{i} and {i + 1} make {2 * i + 1}. " * 12 for i in range(200)), encoding="utf-8")
    data = DataConfig.parse({"paths": [str(text)], "vocab_size": 300, "tasks": []}).pin()
    tokens = run_stage(DATA, data, {}, tmp_path, log=QUIET).path
    options = {"widths": [16, 32], "rates": [0.001, 0.01, 0.1], "steps": 4, "batch": 2, "length": 16}
    config = WidthsConfig.parse({**options, "validation_tokens": 64})
    artifact = run_stage(WIDTHS_STAGE, config, {"tokens": tokens}, tmp_path, log=QUIET)
    results = json.loads((artifact.path / "results.json").read_text(encoding="utf-8"))
    assert [(c["arm"], c["width"]) for c in results["curves"]] == [(a, w) for a in ("mup", "plain") for w in (16, 32)]
    assert results["curves"][0]["losses"] == results["curves"][2]["losses"]
    assert results["curves"][1]["losses"] != results["curves"][3]["losses"]
    assert len(as_csv(results).splitlines()) == 13 and "| mup | 32 |" in as_markdown(results)
    assert len(widths_figure(results).plots) == 2
    assert "<html" in write_page(artifact).read_text(encoding="utf-8")
