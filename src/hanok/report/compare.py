"""What changed between two evaluations of the same questions, and whether chance could have done it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hanok.report.parts import Json, Remark, Words
from hanok.report.run import Scores

LEVEL = 0.05


@dataclass(frozen=True)
class Change:
    """One task before and after: `p` is the two-sided sign test over the questions whose score moved."""

    task: str
    before: float
    after: float
    won: int
    lost: int
    n: int
    p: float | None

    @property
    def points(self) -> float:
        """Return the change in percentage points."""
        return 100 * (self.after - self.before)

    def beyond_chance(self, tests: int) -> bool:
        """Say whether the change is significant at 5 %, corrected for the number of tasks looked at (Bonferroni)."""
        return self.p is not None and self.p < LEVEL / max(tests, 1)


def changes(before: Scores, after: Scores) -> list[Change]:
    """Compare the tasks that both evaluations hold."""
    return [_change(before, after, task) for task in sorted(set(before.tasks) & set(after.tasks))]


def sign_test(won: int, lost: int) -> float:
    """Return the probability that a fair coin would be at least as one-sided (McNemar's exact test)."""
    n = won + lost
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1))
    return min(1.0, float(2 * tail / 2**n))


def verdict(name: str, before: Scores, after: Scores) -> Remark | None:
    """Say in one sentence what a stage did to the held-out accuracies."""
    found = changes(before, after)
    if not found:
        return None
    if any(change.p is None for change in found):
        return Remark("plain", _unpaired(name, found))
    moved = [change for change in found if change.beyond_chance(len(found))]
    if not moved:
        most = max(found, key=lambda change: abs(change.points))
        move = f"{most.task} {most.points:+.1f}"
        en = f"{name} changed no task by more than chance could (largest: {move} points, p = {most.p:.2g})."
        ko = f"{name}: 우연으로 볼 수 없을 만큼 달라진 과제가 없습니다 (최대 {move}%p, p = {most.p:.2g})."
        return Remark("plain", Words(en, ko))
    up, down = [c for c in moved if c.points > 0], [c for c in moved if c.points < 0]
    en = "; ".join(f"{word} {_list(part)}" for word, part in (("raised", up), ("lowered", down)) if part)
    ko = ", ".join(f"{_list(part)} {word}" for word, part in (("상승", up), ("하락", down)) if part)
    rest = len(found) - len(moved)
    others = f" Within chance: {rest} more." if rest else ""
    text = Words(
        f"{name} {en}.{others}", f"{name}: {ko}. 나머지 {rest}개는 우연의 범위입니다." if rest else f"{name}: {ko}."
    )
    return Remark("bad" if down and not up else "good" if up and not down else "plain", text)


def above_chance(scores: Scores) -> Remark | None:
    """Say how many tasks are above guessing even at the lower end of their 95 % interval."""
    tasks = scores.tasks
    if not tasks:
        return None
    above = [task for task, figure in tasks.items() if figure["low"] > figure["chance"]]
    rest = [_level(task, figure) for task, figure in tasks.items() if task not in above]
    en = f"After {scores.label}, {len(above)} of {len(tasks)} task families are above chance, the whole 95 % interval."
    ko = f"{scores.label} 이후 과제 {len(tasks)}종 가운데 {len(above)}종이 95 % 구간 전체로 찍기보다 높습니다."
    if rest:
        en += f" Not: {', '.join(rest)}."
        ko += f" 아닌 것: {', '.join(rest)}."
    return Remark("good" if not rest else "plain" if above else "bad", Words(en, ko))


def _change(before: Scores, after: Scores, task: str) -> Change:
    one, two = before.tasks[task], after.tasks[task]
    old, new = before.samples(task), after.samples(task)
    paired = bool(old) and [row.get("prompt") for row in old] == [row.get("prompt") for row in new]
    gains = [b["score"] - a["score"] for a, b in zip(old, new, strict=True)] if paired else []
    won, lost = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    p = sign_test(won, lost) if paired else None
    return Change(task, one["value"], two["value"], won, lost, two["n"], p)


def _list(found: list[Change]) -> str:
    return ", ".join(
        f"{c.task} {100 * c.before:.1f} → {100 * c.after:.1f} % (+{c.won} −{c.lost} / {c.n}, p = {c.p:.1g})"
        for c in found
    )


def _unpaired(name: str, found: list[Change]) -> Words:
    moves = ", ".join(f"{c.task} {c.points:+.1f}" for c in found)
    return Words(
        f"{name} changed accuracy by (points): {moves}. The questions differ, so chance was not ruled out.",
        f"{name}의 정답률 변화(%p): {moves}. 문항이 서로 달라 우연인지는 따지지 못했습니다.",
    )


def _level(task: str, figure: Json) -> str:
    return f"{task} {100 * figure['value']:.1f} % (chance {100 * figure['chance']:.1f} %)"
