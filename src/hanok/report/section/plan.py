"""The machine, and what it was given to do."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Figure, Section, Table, Words
from hanok.report.run import Run, read_json
from hanok.report.section import SECTIONS
from hanok.report.show import figure, millions

WHAT = Words(
    "The machine was measured for a few seconds: how long a training step and an RL step take. From that follow the "
    "model's depth and the steps of each stage, so that a slow machine finishes too.",
    "몇 초 동안 이 기기의 학습 한 스텝과 강화 학습 한 스텝에 걸리는 시간을 쟀습니다. 그 값으로 모델 깊이와 "
    "단계별 스텝 수를 "
    "정하므로 느린 기기에서도 제시간에 끝납니다.",
)
STEPS = ("pretrain_steps", "sft_steps", "dpo_steps", "grpo_steps")


@SECTIONS.register("plan")
def plan(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the plan beside the machine's figures."""
    chosen = read_json(artifact, "plan.json") or artifact.metrics
    machine = read_json(artifact, "machine.json") or artifact.metrics.get("machine", {})
    speed = machine.get("matmul_gflops", {})
    facts = [
        (Words("depth", "깊이"), figure(chosen.get("depth"))),
        (Words("training speed", "학습 속도"), f"{millions(chosen.get('tokens_per_second', 0))} tokens/s"),
        (Words("matrix products", "행렬 곱"), ", ".join(f"{k} {v:g} GFLOP/s" for k, v in speed.items()) or "–"),
        (Words("exact numerics here", "정확한 수치 연산"), figure(machine.get("exact_numerics"))),
        (Words("skipped here", "건너뛴 것"), figure(machine.get("skipped"))),
    ]
    rows = [[name.removesuffix("_steps"), chosen[name]] for name in STEPS if name in chosen]
    bars = [(name, float(count), True) for name, count in rows]
    title = Words("Steps of each stage", "단계별 스텝 수")
    plots = (bar_plot("plan-steps", title, bars, unit="steps", form=",.0f", wide=True),) if bars else ()
    return Section(
        step,
        Words("Plan", "계획"),
        WHAT,
        facts=facts,
        figures=[Figure("plan", plots, Table(("stage", "steps"), rows))] if rows else [],
        commands=["hanok doctor", "hanok quickstart --minutes 10 --data 'corpus/*.txt'"],
        origins=[run.origin(artifact)],
    )
