"""The top of the page: what ran and where, the figures that matter most, and the verdicts of all sections."""

from __future__ import annotations

from typing import Any

from hanok.core.artifact import Artifact
from hanok.report.compare import above_chance
from hanok.report.examples import examples, final
from hanok.report.figure.accuracy import accuracy_figure
from hanok.report.parts import Json, Section, Words
from hanok.report.run import Run, number, read_json
from hanok.report.section.pretrain import baseline_remark, bits_figure
from hanok.report.section.training import evaluated
from hanok.report.show import duration, figure, megabytes, millions, moment, percent

Fact = tuple[Words, str]
ABOUT = Words(
    "Questions that no stage ever saw, answered greedily and scored by a program. The same questions after "
    "every stage, so "
    "that a change can be told from luck: question by question, with a sign test.",
    "어느 단계에서도 보지 않은 문항에 탐욕적으로 답하게 하고 프로그램이 채점했습니다. 단계마다 같은 문항을 "
    "쓰므로 문항별 부호 "
    "검정으로 실력과 운을 가를 수 있습니다.",
)


def header(run: Run, seconds: float | None) -> list[Fact]:
    """Return machine, versions, seed, corpus and time, as far as the artifacts recorded them."""
    machine, data = _machine(run), run.one("data")
    created = sorted(artifact.created for artifact in run.artifacts.values())
    gpu = machine.get("gpu") or "no GPU"
    where = f"{machine.get('processor')} · {machine.get('cores')} cores · {machine.get('memory_gib')} GiB · {gpu}"
    facts = [
        (Words("machine", "기기"), where if machine else "not recorded"),
        (Words("system", "시스템"), machine.get("system")),
        (Words("versions", "버전"), _versions(machine)),
        (Words("seed", "시드"), _seed(run)),
        (Words("corpus", "말뭉치"), _corpus(data) if data else None),
        (Words("numerics of the evaluation", "평가의 수치 연산"), _numerics(run)),
        (Words("made", "만든 때"), " – ".join(dict.fromkeys(map(moment, (created[0], created[-1]))))),
        (Words("time in stages", "단계에 든 시간"), duration(stage_seconds(run))),
        (Words("wall clock", "전체 시간"), duration(seconds) if seconds is not None else None),
    ]
    return [(name, text) for name, text in facts if text]


def cards(run: Run) -> list[Fact]:
    """Return the few figures that people look for first."""
    found: list[Fact] = []
    if (base := run.one("pretrain")) and "parameters" in base.metrics:
        found.append((Words("parameters", "매개변수"), millions(base.metrics["parameters"])))
        found.append((Words("tokens of pre-training", "사전학습 토큰"), millions(base.metrics.get("num_tokens", 0))))
    bits = next((scores.bits for scores in run.scores if scores.bits is not None), None)
    if bits is not None:
        found.append((Words("bits/byte, unseen text", "처음 보는 글의 바이트당 비트"), f"{bits:.3f}"))
    measured = [scores for scores in run.scores if scores.tasks]
    if measured:
        ends = (measured[0], final(measured))
        means = [sum(task["value"] for task in each.tasks.values()) / len(each.tasks) for each in ends]
        labels = " → ".join(dict.fromkeys(each.label for each in ends))
        name = Words(f"mean accuracy, {labels}", f"평균 정답률, {labels}")
        found.append((name, percent(means[1]) if len(measured) == 1 else f"{100 * means[0]:.1f} → {percent(means[1])}"))
    if (small := run.one("quantize")) and "bytes_before" in small.metrics:
        sizes = [small.metrics[key] for key in ("bytes_before", "bytes_after")]
        shown = f"{sizes[0] / 1e6:.2f} → {megabytes(sizes[1])}"
        found.append((Words("weights, quantised", "양자화한 가중치"), shown))
    if server := run.one("serve"):
        found.append(
            (Words("served, one client", "서빙, 한 명"), f"{server.metrics['tokens_per_second']:,.0f} tokens/s")
        )
    found.append((Words("time in stages", "단계에 든 시간"), duration(stage_seconds(run))))
    return found


def results(run: Run) -> Section | None:
    """Return the section about held-out accuracy, or nothing where nothing was evaluated."""
    made = accuracy_figure(run.scores)
    known = {artifact.digest for artifact in run.artifacts.values() if artifact.kind == "model"}
    orphans = [scores for scores in run.scores if scores.artifact.inputs.get("model") not in known]
    # A model that is in this report is judged in its own section.
    remarks = [remark for each in orphans for remark in (above_chance(each), baseline_remark(each)) if remark]
    figures = [figure for figure in (made, *(bits_figure(each) for each in orphans)) if figure]
    if not figures:
        return None
    return Section(
        "accuracy",
        Words("What the model can do", "모델이 할 수 있는 것"),
        ABOUT,
        remarks=remarks,
        figures=figures,
        examples=examples(run.scores),
        commands=["hanok eval MODEL --tasks questions.jsonl --text held_out.txt"],
        origins=[origin for each in run.scores for origin in evaluated(run, each)],
    )


def stage_seconds(run: Run) -> float:
    """Return the seconds that the stages took, added up."""
    return sum(number(artifact.metrics.get("seconds")) or 0.0 for artifact in run.artifacts.values())


def _machine(run: Run) -> Json:
    plan = run.one("plan")
    if plan is None:
        return {}
    return read_json(plan, "machine.json") or dict(plan.metrics.get("machine", {}))


def _versions(machine: Json) -> str:
    return " · ".join(f"{name} {machine[name]}" for name in ("hanok", "torch", "python") if machine.get(name))


def _seed(run: Run) -> str:
    seeds = {figure(artifact.config["seed"]) for artifact in run.artifacts.values() if "seed" in artifact.config}
    return ", ".join(sorted(seeds))


def _corpus(data: Artifact) -> str:
    meta: dict[str, Any] = {**data.metrics, **read_json(data, "meta.json")}
    return f"{meta.get('source', '')} · sha256 {str(meta.get('corpus_sha256', ''))[:16]}…"


def _numerics(run: Run) -> str:
    return ", ".join(sorted({str(scores.results.get("numerics", "")) for scores in run.scores}))
