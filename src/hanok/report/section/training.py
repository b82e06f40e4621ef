"""What the sections of all training stages share."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.compare import verdict
from hanok.report.parts import Origin, Remark, Words
from hanok.report.run import Run, Scores
from hanok.report.show import duration, figure, millions

Facts = list[tuple[Words, str]]
MOVED = 0.02  # of bits per byte, from which on it is worth saying


def training_facts(artifact: Artifact) -> Facts:
    """Return size, length, parts and numerics of a training run."""
    m, config = artifact.metrics, artifact.config
    optimizer, loop = config.get("optimizer", {}), config.get("loop", {})
    rate = f"{optimizer.get('kind', '–')}, lr {figure(optimizer.get('lr'))}"
    facts = [
        (Words("parameters", "매개변수"), millions(m["parameters"]) if "parameters" in m else ""),
        (Words("steps", "스텝"), figure(m.get("steps"))),
        (Words("batch × length", "배치 × 길이"), f"{figure(config.get('batch'))} × {figure(config.get('length'))}"),
        (Words("tokens seen", "본 토큰"), millions(m.get("num_tokens", 0))),
        (Words("epochs", "에폭"), f"{m['epochs']:.2f}" if "epochs" in m else ""),
        (Words("optimizer", "최적화"), rate),
        (Words("numerics", "수치 연산"), f"{loop.get('numerics', '–')}, {loop.get('compute', '–')}"),
        (Words("skipped steps", "건너뛴 스텝"), figure(m["skipped"]) if m.get("skipped") else ""),
        (Words("seed", "시드"), figure(config.get("seed"))),
        (Words("time", "시간"), duration(m.get("seconds", 0.0))),
    ]
    return [(name, text) for name, text in facts if text]


def effect(run: Run, artifact: Artifact, name: str) -> list[Remark]:
    """Say what a stage did to the held-out accuracies, where both sides of it were evaluated."""
    before, after = run.scores_of(artifact.inputs.get("model")), run.scores_of(artifact.digest)
    if before is None or after is None:
        return []
    found = (verdict(name, before, after), reward(name, before, after), forgetting(name, before, after))
    return [remark for remark in found if remark]


def reward(name: str, before: Scores, after: Scores) -> Remark | None:
    """Say how the mean score of drawn answers moved, task by task, where both sides have one."""
    tasks = [task for task in before.drawn if task in after.drawn]
    apart = [t for t in tasks if after.drawn[t]["low"] > before.drawn[t]["high"]]
    lost = [t for t in tasks if after.drawn[t]["high"] < before.drawn[t]["low"]]
    if not tasks:
        return None
    moves = {t: f"{t} {before.drawn[t]['value']:.2f} → {after.drawn[t]['value']:.2f}" for t in tasks}
    en = f"Held-out reward of answers drawn at temperature 1: {', '.join(moves.values())}."
    ko = f"온도 1에서 뽑은 답의 평가용 보상: {', '.join(moves.values())}."
    if apart or lost:
        en += f" 95 % intervals apart: {', '.join([*apart, *lost])}."
        ko += f" 95 % 구간이 겹치지 않음: {', '.join([*apart, *lost])}."
    return Remark("good" if apart and not lost else "bad" if lost and not apart else "plain", Words(en, ko))


def forgetting(name: str, before: Scores, after: Scores) -> Remark | None:
    """Say what a stage cost on plain text, where that was measured on both sides and moved by more than a little."""
    if before.bits is None or after.bits is None or abs(after.bits / before.bits - 1) < MOVED:
        return None
    worse, bits = after.bits > before.bits, f"{before.bits:.3f} → {after.bits:.3f}"
    en = f"{name} made the model {'worse' if worse else 'better'} at plain text: bits/byte {bits}."
    ko = f"{name} 이후 일반 글은 {'더 못하게' if worse else '더 잘하게'} 되었습니다: 바이트당 비트 {bits}."
    return Remark("bad" if worse else "good", Words(en, ko))


def evaluated(run: Run, scores: Scores | None) -> list[Origin]:
    """Return where the evaluation of a model lies."""
    return [run.origin(scores.artifact)] if scores else []
