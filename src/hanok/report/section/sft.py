"""Supervised fine-tuning: conversations, of which only the assistant's words count."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.core.log import read_metrics
from hanok.report.command import again
from hanok.report.compare import above_chance
from hanok.report.figure.curves import Panel, curves, loss_plot, panel_plot
from hanok.report.parts import Section, Words
from hanok.report.run import Run
from hanok.report.section import SECTIONS
from hanok.report.section.training import effect, evaluated, training_facts

WHAT = Words(
    "The base model sees questions with their answers in the chat format; the loss counts the assistant's "
    "tokens only. "
    "It learns when to answer, in what form, and when to stop.",
    "기반 모델이 대화 형식의 질문과 답을 봅니다. 손실은 답하는 쪽의 토큰에만 매기며, 언제 어떤 꼴로 답하고 "
    "멈출지를 배웁니다.",
)
ACCURACY = Panel(
    "sft-accuracy",
    Words("Tokens predicted right", "맞힌 토큰의 비율"),
    {"mean_token_accuracy": "mean token accuracy"},
)
NORM = Panel("sft-grad-norm", Words("Gradient norm", "기울기 노름"), {"grad_norm": "norm before clipping"}, log=True)
RATE = Panel("sft-lr", Words("Learning rate", "학습률"), {"learning_rate": "learning rate"})
METRICS = ("loss", "val/loss", "mean_token_accuracy", "learning_rate", "grad_norm", "num_tokens")


@SECTIONS.register("sft")
def sft(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the loss on the assistant's tokens, and what the model can do afterwards."""
    records = read_metrics(artifact.path / "metrics.jsonl")
    title = Words("Loss on the assistant's tokens", "답하는 쪽 토큰의 손실")
    plots = [
        loss_plot(records, "loss", f"{step}-loss", title),
        *(panel_plot(records, p) for p in (ACCURACY, NORM, RATE)),
    ]
    figure = curves(step, records, plots, METRICS)
    scores = run.scores_of(artifact.digest)
    chance = above_chance(scores) if scores else None
    return Section(
        step,
        Words("Supervised fine-tuning (SFT)", "미세조정(SFT)"),
        WHAT,
        facts=training_facts(artifact),
        remarks=[*([chance] if chance else []), *effect(run, artifact, "SFT")],
        figures=[figure] if figure else [],
        commands=again(run, artifact),
        origins=[run.origin(artifact), *evaluated(run, scores)],
    )
