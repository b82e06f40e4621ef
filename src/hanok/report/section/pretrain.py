"""Pre-training: next-token prediction on plain text."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.core.log import read_metrics
from hanok.report.command import again
from hanok.report.figure.bars import bar_plot
from hanok.report.figure.curves import Panel, curves, loss_plot, panel_plot
from hanok.report.parts import Figure, Remark, Section, Table, Words
from hanok.report.run import Run, Scores
from hanok.report.section import SECTIONS
from hanok.report.section.training import evaluated, training_facts
from hanok.report.show import percent

WHAT = Words(
    "The model learns to predict the next token of plain text. Bits per byte of unseen text is the honest figure: it "
    "does not depend on the tokenizer, and gzip and an n-gram stand beside it.",
    "모델이 글의 다음 토큰을 예측하도록 배웁니다. 처음 보는 글의 바이트당 비트는 토크나이저와 무관한 정직한 "
    "척도이며, "
    "gzip과 n-gram을 나란히 둡니다.",
)
PANELS = (
    Panel("grad-norm", Words("Gradient norm", "기울기 노름"), {"train/grad_norm": "norm before clipping"}, log=True),
    Panel("lr", Words("Learning rate", "학습률"), {"train/lr": "learning rate"}),
    Panel("speed", Words("Speed", "속도"), {"train/tok_per_sec": "tokens/s"}, "tokens/s"),
)
METRICS = ("train/loss", "val/loss", "train/lr", "train/grad_norm", "train/tok_per_sec", "num_tokens")


@SECTIONS.register("pretrain")
def pretrain(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the loss, the run's health, and bits per byte beside the baselines."""
    records = read_metrics(artifact.path / "metrics.jsonl")
    title = Words("Training and validation loss", "학습 손실과 검증 손실")
    plots = [loss_plot(records, "train/loss", f"{step}-loss", title), *(panel_plot(records, p) for p in PANELS)]
    scores = run.scores_of(artifact.digest)
    figures = [curves(step, records, plots, METRICS, _mixture(run, artifact)), bits_figure(scores)]
    remark = baseline_remark(scores)
    return Section(
        step,
        Words("Pre-training", "사전학습"),
        WHAT,
        facts=training_facts(artifact),
        remarks=[remark] if remark else [],
        figures=[figure for figure in figures if figure],
        commands=again(run, artifact),
        origins=[run.origin(artifact), *evaluated(run, scores)],
    )


def _mixture(run: Run, artifact: Artifact) -> Words | None:
    """Say why the two losses are not of the same text, where generated tasks were mixed in."""
    tokens = run.maker(artifact.inputs.get("tokens"))
    share = float(run.artifacts[tokens].metrics.get("task_share", 0)) if tokens else 0.0
    if share == 0:
        return None
    return Words(
        f"{percent(share)} of the training tokens are generated tasks, which are easier than prose; the "
        f"validation text "
        "is prose only, so the two losses are not of the same text.",
        f"학습 토큰의 {percent(share)}는 글보다 쉬운 생성 과제이고 검증에는 글만 쓰므로, 두 손실은 같은 글의 "
        f"값이 아닙니다.",
    )


def bits_figure(scores: Scores | None) -> Figure | None:
    """Draw the model's bits per byte among the baselines."""
    if scores is None or scores.bits is None:
        return None
    bars = [(f"model ({scores.label})", scores.bits, True)]
    bars += [(name, float(value), False) for name, value in scores.results.get("baselines", {}).items()]
    bars.sort(key=lambda bar: bar[1])
    title = Words("Bits per byte of held-out text (less is better)", "처음 보는 글의 바이트당 비트 (작을수록 좋음)")
    plot = bar_plot("bits-per-byte", title, bars, unit="bits per byte", wide=True)
    return Figure("bits-per-byte", (plot,), Table(("what", "bits per byte"), [bar[:2] for bar in bars]))


def baseline_remark(scores: Scores | None) -> Remark | None:
    """Say plainly whether the model beats every baseline."""
    baselines = scores.results.get("baselines", {}) if scores else {}
    if scores is None or scores.bits is None or not baselines:
        return None
    better = {name: value for name, value in baselines.items() if value <= scores.bits}
    listed = ", ".join(f"{name} {value:.3f}" for name, value in sorted(baselines.items(), key=lambda item: item[1]))
    if not better:
        en = f"The {scores.label} model needs {scores.bits:.3f} bits/byte and beats every baseline ({listed})."
        ko = f"{scores.label} 모델은 바이트당 {scores.bits:.3f}비트로 모든 기준선보다 낫습니다 ({listed})."
        return Remark("good", Words(en, ko))
    names = " and ".join(f"the {name} baseline" for name in better)
    verb = "beats" if len(better) == 1 else "beat"
    en = f"{names[0].upper()}{names[1:]} {verb} the {scores.label} model: {scores.bits:.3f} bits/byte against {listed}."
    ko = f"{scores.label} 모델(바이트당 {scores.bits:.3f}비트)은 기준선 {', '.join(better)}보다 못합니다 ({listed})."
    return Remark("bad", Words(en, ko))
