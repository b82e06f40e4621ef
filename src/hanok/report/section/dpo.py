"""Direct preference optimisation: better and worse answers to the same question."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.core.log import read_metrics
from hanok.report.command import again
from hanok.report.figure.curves import Panel, curves, panel_plot, series
from hanok.report.parts import Json, Remark, Section, Words
from hanok.report.run import Run
from hanok.report.section import SECTIONS
from hanok.report.section.training import effect, evaluated, training_facts

WHAT = Words(
    "Each question comes with a right and a corrupted answer; the model moves towards the first and away from "
    "the second, "
    "measured against a frozen copy of itself. The margin is how far apart they are.",
    "질문마다 옳은 답과 망가뜨린 답을 함께 줍니다. 얼려 둔 자신의 사본을 기준으로 앞엣것에 다가가고 뒤엣것에서 "
    "멀어지며, "
    "마진은 둘이 벌어진 정도입니다.",
)
PANELS = (
    Panel(
        "dpo-rewards",
        Words("Implicit rewards", "암묵적 보상"),
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
    ),
    Panel("dpo-margins", Words("Reward margin", "보상 마진"), {"rewards/margins": "margin"}, smooth=True),
    Panel(
        "dpo-accuracy", Words("Pairs ordered right", "순서를 맞힌 쌍"), {"rewards/accuracies": "accuracy"}, smooth=True
    ),
    Panel(
        "dpo-logps",
        Words("Log-probability of the answers", "답의 로그 확률"),
        {"logps/chosen": "chosen", "logps/rejected": "rejected"},
        "nats per answer",
    ),
    Panel("dpo-loss", Words("Loss", "손실"), {"loss": "loss"}, smooth=True),
)
METRICS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "learning_rate",
    "grad_norm",
)


@SECTIONS.register("dpo")
def dpo(run: Run, step: str, artifact: Artifact) -> Section:
    """Show rewards, margins and log-probabilities, and warn where both answers became less likely."""
    records = read_metrics(artifact.path / "metrics.jsonl")
    figure = curves(step, records, [panel_plot(records, panel) for panel in PANELS], METRICS)
    fallen = both_fall(records)
    return Section(
        step,
        Words("Preference optimisation (DPO)", "선호 최적화(DPO)"),
        WHAT,
        facts=training_facts(artifact),
        remarks=[*effect(run, artifact, "DPO"), *([fallen] if fallen else [])],
        figures=[figure] if figure else [],
        commands=again(run, artifact),
        origins=[run.origin(artifact), *evaluated(run, run.scores_of(artifact.digest))],
    )


def both_fall(records: list[Json]) -> Remark | None:
    """Warn where the right answers, too, became less likely: a known way for DPO to go wrong."""
    fallen = []
    for metric in ("rewards/chosen", "rewards/rejected"):
        values = [value for value in series(records, metric)[1] if value is not None]
        last = values[-max(1, len(values) // 5) :]
        fallen.append(sum(last) / len(last) if last else 0.0)
    if not (fallen[0] < 0 and fallen[1] < 0):
        return None
    return Remark(
        "plain",
        Words(
            f"DPO made both answers less likely (rewards {fallen[0]:+.2f} chosen, {fallen[1]:+.2f} rejected): "
            f"the margin "
            "grew because the wrong ones fell further.",
            f"DPO에서 두 답의 확률이 함께 떨어졌습니다 (보상: 옳은 답 {fallen[0]:+.2f}, 틀린 답 {fallen[1]:+.2f}). "
            "마진은 틀린 답이 더 떨어져서 커졌습니다.",
        ),
    )
