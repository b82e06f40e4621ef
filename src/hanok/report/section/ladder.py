"""The scaling ladder: small runs, a fitted law, and a larger run that was predicted before it was trained."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.command import again
from hanok.report.figure.ladder import fit_table, ladder_figure
from hanok.report.parts import Figure, Json, Remark, Section, Words
from hanok.report.run import Run, read_json
from hanok.report.section import SECTIONS
from hanok.report.show import figure

WHAT = Words(
    "A few tiny models are trained for different lengths and a law L(N, D) is fitted to their losses. The loss of a "
    "larger run is then written down, with an interval, before that run is trained.",
    "아주 작은 모델 몇 개를 길이를 달리해 학습하고 그 손실에 법칙 L(N, D)을 맞춥니다. 그런 다음 더 큰 실행의 "
    "손실을 구간과 함께 "
    "미리 적어 두고 나서야 그 실행을 학습합니다.",
)


@SECTIONS.register("ladder")
def ladder(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the runs, the law, and the prediction beside what came out."""
    data = read_json(artifact, "ladder.json")
    figures = [figure for figure in (ladder_figure(data), _numbers(data)) if figure]
    remark = outcome(data or artifact.metrics)
    return Section(
        step,
        Words("Scaling ladder", "스케일링 법칙"),
        WHAT,
        facts=_facts(data),
        remarks=[remark] if remark else [],
        figures=figures,
        commands=again(run, artifact),
        origins=[run.origin(artifact)],
    )


def outcome(data: Json) -> Remark | None:
    """Say plainly whether the held-out run fell into the interval that was announced."""
    said = data.get("prediction", {}) or {"loss": data.get("predicted"), **data}
    values = [said.get("loss"), said.get("low"), said.get("high"), data.get("measured")]
    if any(value is None for value in values):
        return None
    loss, low, high, measured = map(float, values)  # type: ignore[arg-type]
    level, inside = f"{100 * said.get('level', 0.9):g} %", low <= measured <= high
    figures = f"{loss:.3f} [{low:.3f}, {high:.3f}]"
    if inside:
        en = f"The held-out run's loss is {measured:.3f}, inside the {level} interval predicted before: {figures}."
        ko = f"미리 남겨 둔 실행의 손실은 {measured:.3f}, 예측한 {level} 구간 안입니다: {figures}."
        return Remark("good", Words(en, ko))
    side, ko_side = ("above", "위로") if measured > high else ("below", "아래로")
    en = (
        f"The held-out run's loss is {measured:.3f}, outside the {level} interval predicted before "
        f"({side} {figures}): the law does not hold here as fitted."
    )
    ko = f"미리 남겨 둔 실행의 손실은 {measured:.3f}, 예측한 {level} 구간을 {ko_side} 벗어났습니다 ({figures})."
    return Remark("bad", Words(en, ko))


def _facts(data: Json) -> list[tuple[Words, str]]:
    fit, exponents = data.get("fit", {}), data.get("fit", {}).get("exponents") or {}
    facts = [
        (Words("law", "법칙"), fit.get("law")),
        (Words("runs fitted", "맞춘 실행"), fit.get("runs")),
        (Words("residual", "잔차"), f"{fit['residual_percent']:.2f} %" if "residual_percent" in fit else None),
        (Words("best size ∝ C^a", "최적 크기 ∝ C^a"), exponents.get("a")),
        (Words("best data ∝ C^b", "최적 데이터 ∝ C^b"), exponents.get("b")),
        (Words("epochs of the held-out run", "남겨 둔 실행의 에폭"), data.get("epochs")),
    ]
    return [(name, figure(value)) for name, value in facts if value is not None]


def _numbers(data: Json) -> Figure | None:
    table = fit_table(data)
    return Figure("law", (), table, Words("The law's numbers.", "법칙의 값들입니다.")) if table else None
