"""Questions and answers as they came: of each task the first that the last model got right, and the first it "
"got wrong."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.report.parts import Example, Json
from hanok.report.run import Scores

RIGHT, WRONG = 1, 1


def examples(scores: Sequence[Scores]) -> list[Example]:
    """Pick by a rule, not by eye, and show what every evaluated model said to the same question."""
    shown = [each for each in scores if each.tasks]
    if not shown:
        return []
    judge = final(shown)
    picked = []
    for task in sorted(judge.tasks):
        rows = judge.samples(task)
        right = [number for number, row in enumerate(rows) if row["score"] >= 1][:RIGHT]
        wrong = [number for number, row in enumerate(rows) if row["score"] < 1][:WRONG]
        picked += [_example(task, rows[number], number, shown) for number in sorted(right + wrong)]
    return picked


def final(scores: Sequence[Scores]) -> Scores:
    """Return the last evaluation of a model in its life, before it was packed."""
    return next((each for each in reversed(scores) if each.label not in ("int8", "quantize")), scores[-1])


def _example(task: str, row: Json, number: int, shown: Sequence[Scores]) -> Example:
    answers = []
    for each in shown:
        said = each.samples(task)
        if number < len(said) and said[number]["prompt"] == row["prompt"]:
            answers.append((each.label, said[number]["completion"], said[number]["score"] >= 1))
    return Example(task, row["prompt"], row["answer"], tuple(answers))
