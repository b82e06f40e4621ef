"""The report as a whole: what it holds, what it says, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hanok.core.artifact import ArtifactError
from hanok.core.errors import UsageError
from hanok.report import find_artifacts, write_report
from hanok.report.find import step_of

from .conftest import Maker, ladder, training

LIMIT = 8_000_000
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028{{ 7*7 }}"


def write(maker: Maker, out: Path, **more: Any) -> tuple[str, dict[str, Any]]:
    page = write_report(find_artifacts(maker.root), out, title="A run", command="hanok quickstart --minutes 5", **more)
    return page.read_text(encoding="utf-8"), json.loads((out / "report.json").read_text(encoding="utf-8"))


def own(html: str) -> str:
    """Return the page without Plotly's code."""
    scripts = re.findall(r"<script>.*?</script>", html, flags=re.S)
    return html.replace(max(scripts, key=len), "")


def test_whole_run(whole: Maker, tmp_path: Path) -> None:
    html, record = write(whole, tmp_path / "out")
    assert len(html.encode()) < LIMIT
    assert html.count("Plotly, Inc.") >= 1 and len(re.findall(r"plotly\.js v\d", html)) == 1, "Plotly is inlined once"
    text = own(html)
    for section in ("plan", "data", "tasks", "pretrain", "sft", "dpo", "focus", "grpo", "ladder", "quantize", "serve"):
        assert f'<section class="stage" id="{section}"' in text
        assert record["stages"][section]["hash"] == whole.made[section].digest in text
    assert "hanok quickstart --minutes 5" in text and "Abacus" in text and "abc123" in text
    assert re.search(r"hanok sft \S*pretrain-\w+ --data chat.jsonl --config \S*sft-\w+/config.yaml", text)
    assert not re.search(r'(src|href|action)="(?!#|data:)', text), "nothing is fetched from anywhere"
    assert record["header"]["seed"] == "0, 7"
    for figures in record["sections"].values():
        for figure in figures.values():
            assert (tmp_path / "out" / figure["table"]).read_text().count("\n") > 1
            for plot in figure["plots"]:
                assert json.loads((tmp_path / "out" / plot).read_text())["data"]


def test_verdicts_come_from_the_data(whole: Maker, tmp_path: Path) -> None:
    _, record = write(whole, tmp_path / "out")
    said = {verdict["text"]: verdict["tone"] for verdict in record["verdicts"]}

    def tone(*parts: str) -> str:
        return next(value for text, value in said.items() if all(part in text for part in parts))

    assert tone("beats every baseline", "2.200") == "good"
    assert tone("After sft, 3 of 3 task families are above chance") == "good"
    assert tone("SFT raised addition 0.0 → 30.0 %") == "good"
    assert tone("DPO changed no task by more than chance could") == "plain"
    assert tone("GRPO raised copy 51.0 → 75.0 % (+48 −0 / 200", "Within chance: 2 more.") == "good"
    assert tone("60 steps engine and trainer", "bit for bit") == "good"
    assert tone("3.050, inside the 90 % interval") == "good"
    assert tone("within 2 points", "copy -0.5", "35 % of the size") == "good"


def test_bad_news_is_said_plainly(maker: Maker, tmp_path: Path) -> None:
    maker.add("data", "tokens", {}, {})
    maker.model("pretrain", training("train/loss"), {"steps": 60}, tokens="data")
    maker.scores("base", "pretrain", {"copy": 0.9}, bits=2.5)
    maker.model("grpo", [{"step": 1, "ratio/min": 0.99, "ratio/max": 1.0}], {}, model="pretrain")
    maker.scores("grpo", "grpo", {"copy": 0.6}, bits=3.0)
    maker.add("quantize", "model", {}, {}, model="grpo")
    maker.scores("int8", "quantize", {"copy": 0.55})
    maker.add("ladder", "ladder", {"ladder.json": ladder(3.2)}, {})
    _, record = write(maker, tmp_path / "out")
    bad = " ".join(verdict["text"] for verdict in record["verdicts"] if verdict["tone"] == "bad")
    assert "The ngram baseline beats the base model: 2.500 bits/byte against ngram 2.400" in bad
    assert "GRPO lowered copy 90.0 → 60.0 %" in bad and "disagreed on probabilities" in bad
    assert "GRPO made the model worse at plain text: bits/byte 2.500 → 3.000" in bad
    assert "NOT within 2 points" in bad and "3.200, outside the 90 % interval" in bad and "above 3.000" in bad


@pytest.mark.parametrize(
    "step",
    [
        *("plan", "sft", "eval-grpo", "ladder"),
        *(pytest.param(step, marks=pytest.mark.slow) for step in ("data", "pretrain", "grpo", "quantize", "serve")),
    ],
)
def test_one_artifact_alone(whole: Maker, step: str, tmp_path: Path) -> None:
    only = whole.made[step]
    assert list(find_artifacts(only.path)) == [step]
    page = write_report(find_artifacts(only.path), tmp_path / "out", title="One", command="hanok report")
    text = own(page.read_text(encoding="utf-8"))
    assert only.digest in text
    if step == "sft":
        assert "hanok sft MODEL --data chat.jsonl" in text, "its model is not in this report"


def test_unknown_stage_and_bare_metrics(maker: Maker, tmp_path: Path) -> None:
    maker.add("distil", "model", {}, {"loss": 1.25, "machine": {"a": 1}})
    maker.model("sft", [], {"loss": float("nan")})
    html, _ = write(maker, tmp_path / "out")
    assert 'id="distil"' in html and "1.25" in html


def test_same_artifacts_same_bytes(whole: Maker, tmp_path: Path) -> None:
    write(whole, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    write(whole, tmp_path / "out")
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert before == after and len(before) > 20
    html, _ = write(whole, tmp_path / "out", seconds=61.0)
    assert "61\u00a0s" in own(html)


def test_hostile_text_stays_text(maker: Maker, tmp_path: Path) -> None:
    maker.add("data", "tokens", {}, {"corpus_sha256": HOSTILE, "train_tokens": 5})
    maker.model("pretrain", [], {}, tokens="data")
    maker.scores("base", "pretrain", {"co<b>py": 0.5}, said=HOSTILE)
    maker.scores(HOSTILE.replace("/", "_"), "pretrain", {"co<b>py": 0.5}, said=HOSTILE)
    html, _ = write(maker, tmp_path / "out")
    text = own(html)
    assert "<script>window" not in text and "<img" not in text and "&lt;/script&gt;" in text
    assert "{{ 7*7 }}" in text and "co<b>py" not in text
    for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, flags=re.S):
        assert "<" not in block and json.loads(block), "the data cannot end its element"


def test_a_spreadsheet_runs_no_formula(maker: Maker, tmp_path: Path) -> None:
    rows = [{"prompt": "=cmd()", "text": "", "tokens": 1, "ttft": 0.1, "seconds": 1.0}]
    maker.add("serve", "serve", {"serve.json": {"samples": rows}}, {"tokens_per_second": 1.0})
    write(maker, tmp_path / "out")
    assert "'=cmd()" in (tmp_path / "out" / "figs" / "serve.csv").read_text()


def test_long_runs_are_thinned_on_the_page_only(maker: Maker, tmp_path: Path) -> None:
    maker.model("pretrain", training("train/loss", "train/lr", "train/grad_norm", steps=30_000), {})
    html, _ = write(maker, tmp_path / "out")
    assert len(html.encode()) < LIMIT
    assert (tmp_path / "out" / "figs" / "pretrain.csv").read_text().count("\n") == 30_001


def test_finds_the_newest_of_each_step(maker: Maker, tmp_path: Path) -> None:
    maker.add("data", "tokens", {}, {"train_tokens": 1})
    old = maker.add("sft", "model", {}, {})
    newer = maker.root / "sft-ffffffffff"
    newer.mkdir()
    manifest = json.loads((old.path / "artifact.json").read_text())
    manifest |= {"files": {}, "created": "2999-01-01T00:00:00+00:00"}
    (newer / "artifact.json").write_text(json.dumps(manifest))
    (maker.root / "dpo-0123456789.partial").mkdir()
    assert {step: found.path.name for step, found in find_artifacts(maker.root).items()} == {
        "data": "data-0000000000",
        "sft": "sft-ffffffffff",
    }
    assert step_of(Path("eval-int8-0a1b2c3d4e")) == "eval-int8" and step_of(Path("my-model")) == "my-model"


def test_refuses_nothing_and_damage(maker: Maker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report"):
        write_report({}, tmp_path, title="", command="")
    with pytest.raises(UsageError, match="no folder"):
        find_artifacts(tmp_path / "absent")
    broken = maker.add("plan", "plan", {"plan.json": {"depth": 1}}, {})
    with pytest.raises(UsageError, match=r"no finished stage; did you mean .*run\?"):
        find_artifacts(maker.root.parent)
    (broken.path / "plan.json").write_text('{"depth": 2}')
    with pytest.raises(ArtifactError, match=r"plan\.json has changed"):
        find_artifacts(maker.root)
