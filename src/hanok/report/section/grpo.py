"""Reinforcement learning on rewards that a program can check."""

from __future__ import annotations

from typing import Any

from hanok.core.artifact import Artifact
from hanok.core.log import read_metrics
from hanok.report.command import again
from hanok.report.figure.curves import Panel, curves, panel_plot
from hanok.report.parts import Example, Json, Remark, Section, Words
from hanok.report.run import Run, number
from hanok.report.section import SECTIONS
from hanok.report.section.training import effect, evaluated, training_facts

WHAT = Words(
    "The model answers each question several times; answers that beat their group's average become more likely, the "
    "others less. The engine samples from the very model that is trained, so both sides agree on every probability.",
    "같은 질문에 여러 번 답하게 하고, 무리의 평균보다 나은 답은 더 잘 나오게, 못한 답은 덜 나오게 합니다. 학습 "
    "중인 바로 그 "
    "모델에서 표본을 뽑으므로 양쪽의 확률이 일치합니다.",
)
PANELS = (
    Panel(
        "grpo-reward",
        Words("Reward", "보상"),
        {"reward": "mean reward"},
        spread=("reward", "reward_std"),
        smooth=True,
    ),
    Panel("grpo-entropy", Words("Entropy", "엔트로피"), {"entropy": "entropy"}, "nats per token"),
    Panel(
        "grpo-length",
        Words("Completion length", "답의 길이"),
        {"completions/mean_length": "all", "completions/mean_terminated_length": "finished"},
        "tokens",
    ),
    Panel(
        "grpo-waste",
        Words("Groups without a lesson, answers cut off", "배울 것 없는 무리, 잘린 답"),
        {"frac_reward_zero_std": "all answers alike", "completions/clipped_ratio": "cut off"},
        "share",
    ),
    Panel("grpo-kl", Words("KL to the start", "시작 모델과의 KL"), {"kl": "KL"}, "nats per token"),
    Panel(
        "grpo-clip",
        Words("Ratio of new to old probability", "새 확률과 옛 확률의 비"),
        {"ratio/max": "largest", "ratio/min": "smallest"},
    ),
)
METRICS = (
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "entropy",
    "kl",
    "completions/mean_length",
    "completions/clipped_ratio",
    "clip_ratio/region_mean",
    "loss",
    "grad_norm",
    "step_time",
)
GROUPS, SHOWN = 3, 8


@SECTIONS.register("grpo")
def grpo(run: Run, step: str, artifact: Artifact) -> Section:
    """Show reward, entropy and lengths, the last rollouts, and what it changed on held-out questions."""
    records = read_metrics(artifact.path / "metrics.jsonl")
    figure = curves(step, records, [panel_plot(records, panel) for panel in PANELS], METRICS)
    return Section(
        step,
        Words("Reinforcement learning (GRPO)", "강화 학습(GRPO)"),
        WHAT,
        facts=training_facts(artifact),
        remarks=[*effect(run, artifact, "GRPO"), *agreement(records, artifact)],
        figures=[figure] if figure else [],
        examples=rollouts(read_metrics(artifact.path / "samples.jsonl")),
        commands=again(run, artifact),
        origins=[run.origin(artifact), *evaluated(run, run.scores_of(artifact.digest))],
    )


def agreement(records: list[Json], artifact: Artifact) -> list[Remark]:
    """Say whether engine and trainer gave each sampled token the same probability, where exact numerics promise it.

    Only the first update of a round can show it: later ones have moved the policy on purpose.
    """
    ratios = [(row["ratio/min"], row["ratio/max"]) for row in records if "ratio/min" in row and "ratio/max" in row]
    if artifact.config.get("updates") != 1 or artifact.config.get("loop", {}).get("numerics") != "exact" or not ratios:
        return []
    if all(low == high == 1 for low, high in ratios):
        en = f"In all {len(ratios)} steps engine and trainer gave each sampled token the same probability, bit for bit."
        ko = f"{len(ratios)}개 스텝 모두에서 엔진과 학습기가 계산한 표본 토큰의 확률이 마지막 비트까지 같았습니다."
        return [Remark("good", Words(en, ko))]
    low, high = min(low for low, _ in ratios), max(high for _, high in ratios)
    en = f"Engine and trainer disagreed on probabilities (ratios {low:.6g} to {high:.6g}), though exact was asked for."
    ko = f"정확한 연산을 요청했는데도 엔진과 학습기의 확률이 달랐습니다 (비율 {low:.6g}~{high:.6g})."
    return [Remark("bad", Words(en, ko))]


def rollouts(rows: list[Json]) -> list[Example]:
    """Return the completions that were kept of the last rounds: each question once, with its group of answers."""
    groups: dict[tuple[Any, str], list[Json]] = {}
    for row in rows:
        groups.setdefault((row.get("step", 0), question(row.get("prompt"))), []).append(row)
    examples = []
    for (step, asked), group in list(groups.items())[-GROUPS:]:
        task, answer = (str(group[0].get(name) or "") for name in ("task", "answer"))
        answers = tuple(_answer(row) for row in group[:SHOWN])
        examples.append(Example(f"{task} · step {step}" if task else f"step {step}", asked, answer, answers))
    return examples


def _answer(row: Json) -> tuple[str, str, bool | None]:
    reward, advantage = number(row.get("reward")), number(row.get("advantage"))
    who = "sampled" if advantage is None else f"advantage {advantage:+.2f}"
    return who, str(row.get("completion", "")), None if reward is None else reward > 0


def question(prompt: Any) -> str:
    """Return a prompt's last words, whether it is text or messages."""
    if isinstance(prompt, list):
        return "\n".join(str(message.get("content", "")) for message in prompt)
    return str(prompt)
