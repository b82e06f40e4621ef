"""The verifiable reward: is the answer right?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hanok.align.reward import REWARDS
from hanok.align.reward.base import RewardConfig, need
from hanok.text.task import Item, Task, make_task


@REWARDS.register("exact_match")
class ExactMatch:
    """Score the completion against the column `answer`: by its task's own scorer, else as equal text.

    The column `task` names the scorer; a row without one is compared as text, white space around it aside.
    """

    class Config(RewardConfig):
        """Its weight."""

        kind: Literal["exact_match"] = "exact_match"

    def __init__(self, config: Config) -> None:
        self.config = config
        self._tasks: dict[str, Task] = {}

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        """Return scores in [0, 1]."""
        answers = need(columns, "answer", "exact_match")
        names = columns.get("task", [None] * len(completions))
        return [self._score(*row) for row in zip(prompts, completions, answers, names, strict=True)]

    def _score(self, prompt: Any, completion: str, answer: Any, name: Any) -> float:
        if name is None:
            return float(completion.strip() == str(answer).strip())
        if name not in self._tasks:
            self._tasks[name] = make_task(str(name))
        question = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        return float(self._tasks[name].score(Item(question, str(answer), name), completion))
