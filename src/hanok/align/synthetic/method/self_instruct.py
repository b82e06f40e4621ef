"""Self-Instruct: tasks that the model invents after examples, and an instance of each."""

from __future__ import annotations

import re
from random import Random
from typing import Literal

from pydantic import Field

from hanok.align.synthetic.ask import Draft, Pool, Reply, Row, Writing, ask
from hanok.align.synthetic.method import METHODS
from hanok.align.synthetic.method.base import instruction_of, instruction_row, with_input
from hanok.core.config import PartConfig

# White space is stripped by the code below, and a beginning is looked for once: a pattern that tried both again and
# again would take minutes over a long reply of blanks or of beginnings.
TASK = re.compile(r"^[ \t]*(?:Task[ \t]*)?\d+[ \t]*[.:)]\s*(\S.*)$", re.MULTILINE | re.IGNORECASE)
INSTANCE = re.compile(r"\A(?>.*?Input:)(.*?)Output:(.*)", re.DOTALL | re.IGNORECASE)
LABELLED = re.compile(r"\A(?>.*?Class label:)(.*?)Input:(.*)", re.DOTALL | re.IGNORECASE)
NOTHING = {"", "none", "n/a", "no input", "<noinput>", "없음"}
# The paper's own list: tasks that a language model cannot do.
BEYOND = re.compile(r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio|music|flowchart|diagram)\b")


@METHODS.register("self_instruct", paper="https://arxiv.org/abs/2212.10560")
class SelfInstruct:
    """Self-Instruct: the model continues a list of tasks, tells classification from the rest, and does each task.

    The list shows six tasks of the user's and two of its own. A classification is answered before its input is
    written, so that not all get the same label.
    """

    class Config(PartConfig):
        """How many tasks are shown (`human` of the user's, `own` written before) and asked for at once."""

        kind: Literal["self_instruct"] = "self_instruct"
        human: int = Field(6, ge=1)
        own: int = Field(2, ge=0)
        tasks: int = Field(8, ge=1)

    makes = "conversations"

    def __init__(self, config: Config) -> None:
        self.config = config

    def seed(self, row: Row, where: str) -> Row:
        """Read an instruction in any known form."""
        return instruction_row(row, where)

    def turns(self, seeds: int) -> int | None:
        """There is no end."""
        return None

    def write(self, turn: int, rng: Random, pool: Pool) -> Writing:
        """Ask for tasks, then for the kind of each, then for an instance of each."""
        own = rng.sample(pool.rows, min(self.config.own, len(pool.rows)))
        human = rng.sample(pool.seeds, min(self.config.human, len(pool.seeds)))
        shown = [*human, *own]
        rng.shuffle(shown)
        (reply,) = yield [ask(list_prompt([instruction_of(row) for row in shown], self.config.tasks))]
        found = tasks_of(reply, len(shown), self.config.tasks)
        drafts = [
            Draft({"instruction": task, "prompt": task, "completion": ""}, key=task, fault=fault)
            for task in found
            if (fault := fault_of(task) or (None if pool.new(task) else "an instruction like it is there"))
        ]
        good = [task for task in found if fault_of(task) is None and pool.new(task)]
        if not good:
            return drafts
        kinds = yield [ask(kind_prompt(task), temperature=0.0, max_tokens=8) for task in good]
        labelled = [kind.text.strip().lower().startswith("yes") for kind in kinds]
        replies = yield [ask(instance_prompt(task, first)) for task, first in zip(good, labelled, strict=True)]
        parents = tuple(row["id"] for row in shown)
        return drafts + [
            instance(task, first, reply, parents) for task, first, reply in zip(good, labelled, replies, strict=True)
        ]


def list_prompt(tasks: list[str], more: int) -> str:
    """Return the request to go on with a list of tasks."""
    lines = "\n".join(f"Task {at}: {' '.join(task.split())}" for at, task in enumerate(tasks, 1))
    first, last = len(tasks) + 1, len(tasks) + more
    return (
        f"Come up with a series of tasks. Here are the first {len(tasks)}:\n\n{lines}\n\n"
        f"Continue the list with tasks {first} to {last}. They should differ from those above and from each other in "
        "what they ask for and in how they ask. Write one task on each line, in the form 'Task N: ...', and no more."
    )


def kind_prompt(task: str) -> str:
    """Return the question whether a task is a classification."""
    return (
        "Can the following task be regarded as a classification task with a limited set of labels?\n\n"
        f"Task: {task}\n\nAnswer with Yes or No."
    )


def instance_prompt(task: str, label_first: bool) -> str:
    """Return the request for one instance of a task."""
    if label_first:
        how = "First choose a possible class label, then write an input that has it:\n\nClass label: ...\nInput: ..."
    else:
        how = "If it needs an input, write one (otherwise 'None'), then the correct output:\n\nInput: ...\nOutput: ..."
    return f"Write one example of the following task.\n\nTask: {task}\n\n{how}"


def tasks_of(reply: Reply, before: int, most: int) -> list[str]:
    """Return the new tasks of a reply, each once; the last line of a reply that was cut off is left out."""
    text = reply.text
    if not text.lstrip().lower().startswith(("task", *"0123456789")):
        text = f"Task {before + 1}: {text.lstrip()}"  # a model that goes on where the list ended
    if not reply.finished:
        text = text.rpartition("\n")[0]
    return list(dict.fromkeys(found.group(1).strip() for found in TASK.finditer(text)))[:most]


def fault_of(task: str) -> str | None:
    """Return why an instruction is of no use, by the paper's rules, or None."""
    words = task.split()
    if len(words) <= 3 or len(words) > 150:
        return "the instruction is too short or too long"
    if BEYOND.search(task.lower()):
        return "the instruction asks for more than text"
    if task.lower().startswith("write a program"):
        return "the instruction begins with 'Write a program'"
    return None if task[0].isalnum() else "the instruction begins with punctuation"


def instance(task: str, label_first: bool, reply: Reply, parents: tuple[str, ...]) -> Draft:
    """Return the draft of a reply in the form that was asked for."""
    found = (LABELLED if label_first else INSTANCE).match(reply.text)
    first, second = (found.group(1).strip(), found.group(2).strip()) if found else ("", "")
    given, output = (second, first) if label_first else (first, second)
    if given.lower() in NOTHING:
        given = ""
    row = {"instruction": task, "prompt": with_input(task, given), "completion": output}
    fault = "the reply has not the form that was asked for" if found is None or not output else None
    if fault is None and given == output:
        fault = "input and output are the same"
    return Draft(row, key=task, parents=parents, finished=reply.finished, fault=fault)
