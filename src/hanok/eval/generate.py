"""Tasks that a program can check: the model answers, the answer is scored."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hanok.core.errors import UsageError, suggest
from hanok.core.log import Log
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Output, Request
from hanok.eval.figure import Accuracy, accuracy
from hanok.eval.score import SCORES
from hanok.text.chat.message import check_messages
from hanok.text.data.read import Record, read_records
from hanok.text.task import TASKS, Item, Task, make_task


@dataclass(frozen=True)
class Question:
    """One row of a task file: `prompt` and `answer`; `task` names a task or a score, `chance` what guessing gets.

    `before` are the messages of a conversation that the prompt ends.
    """

    prompt: str
    answer: str
    task: str
    chance: float
    before: tuple[dict[str, Any], ...] = ()

    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation up to the question."""
        return [*self.before, {"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class Sample:
    """What the model said to a question, and what it was worth."""

    prompt: str
    answer: str
    completion: str
    score: float
    finish_reason: str
    tokens: int


def read_questions(file: Path) -> list[Question]:
    """Read a jsonl file of questions, as the quickstart and the GRPO stage use them."""
    return [_question(record) for record in read_records([file])]


def questions_of(items: Sequence[Item], task: Task) -> list[Question]:
    """Turn a task's items into questions, with the chance level of its difficulty."""
    return [Question(item.prompt, item.answer, item.task, task.chance) for item in items]


def answer_questions(
    llm: LLM,
    questions: Sequence[Question],
    *,
    max_tokens: int = 48,
    temperature: float = 0.0,
    numerics: str = "exact",
    log: Log | None = None,
) -> dict[str, list[Sample]]:
    """Let the model answer, in batches, and score; samples come by task, in the order of the questions.

    At temperature 0 the likeliest answer is given; at 1 one is drawn from the model, each question with its own seed.
    A model with a chat format is asked as a user would ask it; any other continues the bare prompt.
    """
    if not questions:
        raise UsageError("there are no questions to ask")
    if llm.tokenizer is None:
        raise UsageError("generation tasks need the model's tokenizer: its directory holds no tokenizer.json")
    engine = Engine(llm, numerics=numerics)
    requests = [
        Request(
            question.prompt if llm.chat is None else question.messages(), max_tokens, temperature=temperature, seed=at
        )
        for at, question in enumerate(questions)
    ]
    samples: dict[str, list[Sample]] = {}
    scorers = _Scorers()
    for question, output in zip(questions, _run(engine, requests, log), strict=True):
        score = scorers.score(question, output.text)
        sample = Sample(question.prompt, question.answer, output.text, score, output.finish_reason, len(output.tokens))
        samples.setdefault(question.task, []).append(sample)
    return samples


def summarise(samples: dict[str, list[Sample]], questions: Sequence[Question]) -> list[Accuracy]:
    """Return the accuracy of each task, by name."""
    chances: dict[str, list[float]] = {}
    for question in questions:
        chances.setdefault(question.task, []).append(question.chance)
    return [
        accuracy(task, [sample.score for sample in rows], sum(chances[task]) / len(chances[task]))
        for task, rows in sorted(samples.items())
    ]


def write_samples(samples: dict[str, list[Sample]], out: Path) -> None:
    """Write `samples_<task>.jsonl` files."""
    for task, rows in samples.items():
        lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows]
        (out / f"samples_{task}.jsonl").write_text("".join(lines), encoding="utf-8")


def _run(engine: Engine, requests: Sequence[Request], log: Log | None) -> list[Output]:
    ids = [engine.add(request) for request in requests]
    outputs: dict[int, Output] = {}
    started = time.monotonic()
    while engine.has_work:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            if event.output is not None:
                outputs[event.id] = event.output
        if log is not None:
            log.progress(f"eval: {len(outputs)}/{len(ids)} answers, {time.monotonic() - started:.0f} s")
    return [outputs[id] for id in ids]


class _Scorers:
    """Scorers by the name in a row: a task's own, or a general one."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def score(self, question: Question, completion: str) -> float:
        name = question.task
        if name in SCORES:
            return SCORES[name](completion, question.answer)
        if name not in self._tasks:
            self._tasks[name] = make_task(name)
        return self._tasks[name].score(Item(question.prompt, question.answer, name), completion)


def _question(record: Record) -> Question:
    row = record.row
    for name in ("prompt", "answer"):
        if not row.get(name):
            raise record.error(f"a question needs the column {name!r}{suggest(name, row)}")
    prompt, answer, task = row["prompt"], row["answer"], row.get("task", "exact")
    before: list[dict[str, Any]] = []
    if not isinstance(prompt, str):
        messages = check_messages(prompt, where=f"{record.file}, line {record.line}: prompt")
        before, prompt = messages[:-1], messages[-1]["content"]
    if not isinstance(answer, str):
        raise record.error(f"answer must be a text, not {answer!r}")
    if not isinstance(task, str) or (task not in TASKS and task not in SCORES):
        known = [*TASKS, *SCORES]
        raise record.error(f"unknown task {task!r}{suggest(task, known)} (tasks and scores: {', '.join(known)})")
    return Question(prompt, answer, task, _chance(record, task), tuple(before))


def _chance(record: Record, task: str) -> float:
    value: Any = record.row.get("chance", make_task(task).chance if task in TASKS else 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise record.error(f"chance must be a number from 0 to 1, not {value!r}")
    return float(value)
