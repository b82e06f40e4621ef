import json

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.scaling import ladder
from hanok.scaling.interval import Interval, Prediction
from hanok.scaling.ladder import Cost, LadderConfig, Rung, make_plan
from hanok.scaling.runs import Runs
from hanok.scaling.stages import LADDER, compare, fit_runs
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer

QUIET = Log(None, quiet=True)
TINY = LadderConfig.parse(
    {
        "sizes": [{"dim": 8, "depth": 1}, {"dim": 16, "depth": 1}, {"dim": 24, "depth": 1}],
        "steps": [4, 8, 16],
        "held_out": {"dials": {"dim": 32, "depth": 1}, "steps": 16},
        "recipe": {"steps": 1, "batch": 2, "length": 16, "schedule": {"kind": "linear", "final": 0.0}},
        "samples": 20,
        "validation_tokens": 512,
    }
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    texts = [f"line {i}: the beam rests on the post, and the post rests on stone {i * 7 % 13}. " * 3 for i in range(60)]
    tokenizer = Tokenizer.train(texts, vocab_size=280)
    tokenizer.save(path)
    for split, part in (("train", texts[:50]), ("valid", texts[50:])):
        documents = [tokenizer.encode_document(text) for text in part]
        write_shards(path / split, documents, vocab_size=280, num_bytes=sum(map(len, part)))
    return path


def test_the_stage_predicts_before_it_trains_and_says_what_came_out(tokens, tmp_path, monkeypatch):
    seen = []
    train = ladder.pretrain

    def watched(config, inputs, out, log, **more):
        said = list(tmp_path.rglob("prediction.json"))
        seen.append((config.dials["dim"], config.steps, bool(said)))
        return train(config, inputs, out, log, **more)

    monkeypatch.setattr(ladder, "pretrain", watched)
    artifact = run_stage(LADDER, TINY, {"tokens": tokens}, tmp_path, log=QUIET)
    assert [said for *_, said in seen] == [False] * 9 + [True] and seen[-1][:2] == (32, 16)
    data = json.loads((artifact.path / "ladder.json").read_text())
    assert artifact.kind == "ladder" and len(data["runs"]) == 9 and len(data["curves"]) == 4
    prediction = json.loads((artifact.path / "prediction.json").read_text())
    assert data["prediction"] == prediction
    inside = prediction["low"] <= data["measured"] <= prediction["high"]
    assert data["inside"] is inside is artifact.metrics["inside"]
    assert ("inside the 90 %" in data["verdict"]) is inside
    assert data["held_out"]["tokens"] == 16 * 2 * 16 and data["held_out"]["loss"] == data["measured"]
    again = Runs.from_csv(artifact.path / "runs.csv")
    assert again.loss.tolist() == [row["loss"] for row in data["runs"]]
    assert not (artifact.path / "checkpoints").exists()


@pytest.mark.slow
def test_a_killed_ladder_goes_on_where_it_was(tokens, tmp_path, monkeypatch):
    train, calls = ladder.pretrain, []

    def dies_at_the_fifth(config, inputs, out, log, **more):
        calls.append((config.dials["dim"], config.steps))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return train(config, inputs, out, log, **more)

    monkeypatch.setattr(ladder, "pretrain", dies_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run_stage(LADDER, TINY, {"tokens": tokens}, tmp_path / "killed", log=QUIET)
    resumed = run_stage(LADDER, TINY, {"tokens": tokens}, tmp_path / "killed", log=QUIET)
    assert len(calls) == 5 + 6  # four runs were kept
    monkeypatch.undo()
    whole = run_stage(LADDER, TINY, {"tokens": tokens}, tmp_path / "whole", log=QUIET)
    assert resumed.metrics["measured"] == whole.metrics["measured"]
    assert resumed.metrics["predicted"] == whole.metrics["predicted"]


def test_a_plan_fits_its_time_and_is_kept(tmp_path):
    config = LadderConfig(seconds=60)
    asked = []

    def cost(rung):
        asked.append(rung.dials["dim"])
        return Cost(step=rung.dials["dim"] / 1e4, fixed=0.5, spent=0.6)

    plan = make_plan(config, tmp_path, cost)
    assert asked == [32, 64, 112, 176]
    assert plan.estimated_seconds == pytest.approx(60, abs=0.5)
    assert {rung.steps for rung in plan.rungs} == {round(steps * plan.scale) for steps in config.steps}
    assert make_plan(config, tmp_path, cost) == plan and len(asked) == 4
    short = make_plan(LadderConfig(seconds=1), tmp_path / "short", cost)
    assert [rung.steps for rung in short.rungs[:3]] == [10, 20, 40]  # never fewer than a sixteenth


def test_without_a_time_the_steps_are_those_of_the_config(tmp_path):
    plan = make_plan(TINY, tmp_path, lambda rung: pytest.fail("no trial is needed"))
    assert [*plan.rungs] == TINY.rungs() and plan.held_out == Rung(dials={"dim": 32, "depth": 1}, steps=16)


@pytest.mark.parametrize(("measured", "says"), [(3.0, "inside"), (3.3, "above"), (2.7, "below")])
def test_a_miss_is_called_a_miss(measured, says):
    verdict = compare(Prediction(1e6, 1e6, 3.0, Interval(2.9, 3.1, 0.9)), measured)
    assert verdict["inside"] is (says == "inside") and f"{says} the 90 % interval" in verdict["verdict"]


def test_ladder_needs_validation_tokens(tokens, tmp_path):
    with pytest.raises(UsageError, match="holds no validation shards"):
        run_stage(LADDER, TINY, {"tokens": tokens / "train"} | _tokenizer(tokens), tmp_path, log=QUIET)


def _tokenizer(tokens):
    """Lay a tokenizer beside the training shards, as a user's own folder may have it."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tokens / "train" / name).write_bytes((tokens / name).read_bytes())
    return {}


def test_fit_of_a_users_runs():
    rng = np.random.default_rng(0)
    params, tokens = np.exp(rng.uniform(11, 16, 50)), np.exp(rng.uniform(13, 19, 50))
    runs = Runs(params, tokens, (1.7 + 50 / params**0.4 + 90 / tokens**0.35) * np.exp(0.005 * rng.standard_normal(50)))
    result = fit_runs(runs, samples=40, targets=[(1e7, 1e9)], flops=[1e18])
    json.dumps(result)
    assert result["resample"] == "pairs" and result["runs"] == 50
    low, high = result["intervals"]["beta"]
    assert low < result["values"]["beta"] < high
    (prediction,) = result["predictions"]
    truth = 1.7 + 50 / 1e7**0.4 + 90 / 1e9**0.35
    assert prediction["low"] < truth < prediction["high"]
    assert result["optimal"][0]["params"] * result["optimal"][0]["tokens"] * 6 == pytest.approx(1e18)
    few = fit_runs(runs.take(np.arange(9)), "tokens", samples=20)
    assert few["resample"] == "residuals" and few["exponents"] is None
