"""Evol-Instruct: an instruction is made harder, or answered by a new one of its kind, generation after generation."""

from __future__ import annotations

import re
from random import Random
from typing import Literal, get_args

from pydantic import Field

from hanok.align.synthetic.ask import Draft, Pool, Row, Writing, ask
from hanok.align.synthetic.method import METHODS
from hanok.align.synthetic.method.base import instruction_of, instruction_row
from hanok.core.config import PartConfig

Way = Literal["constraints", "deepening", "concretizing", "reasoning", "input", "breadth"]
DEEPER: dict[Way, str] = {
    "constraints": "Add one more constraint or requirement to it.",
    "deepening": "If it asks about certain issues, ask about them in more depth and breadth.",
    "concretizing": "Replace general concepts in it with more specific ones.",
    "reasoning": "If it can be solved by a few simple steps of thinking, rewrite it so that it explicitly asks for "
    "reasoning in several steps.",
    "input": "Add data in some other form to it (a table, code, a formula, a log) that the answer has to use.",
}
BREADTH: Way = "breadth"
LEAKED = re.compile(r"(given|rewritten|created|new)[ _]prompt", re.IGNORECASE)
SORRY, SHORT = re.compile(r"\bsorry\b|\bas an ai\b|죄송", re.IGNORECASE), 80  # words of an answer that is an excuse


@METHODS.register("evol_instruct", paper="https://arxiv.org/abs/2304.12244")
class EvolInstruct:
    """Evol-Instruct: rewrites an instruction to be harder in one of five ways, or draws a new one of its domain.

    What has failed to evolve is eliminated by the paper's four rules: no gain over its parent (the model's own
    judgement), an answer that excuses itself, an answer without words, and an instruction that speaks of the prompt.
    """

    class Config(PartConfig):
        """Ways to evolve, how many `words` one step may add, and the `generations` after which a line ends."""

        kind: Literal["evol_instruct"] = "evol_instruct"
        ways: tuple[Way, ...] = Field(get_args(Way), min_length=1)
        words: int = Field(20, ge=1)
        generations: int = Field(4, ge=1)
        check: bool = True

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
        """Evolve one instruction, then have it compared with its parent and answered."""
        alive = [row for row in pool.rows if row["generation"] < self.config.generations]
        parent, way = rng.choice([*pool.seeds, *alive]), rng.choice(self.config.ways)
        old, generation = instruction_of(parent), int(parent.get("generation", 0)) + 1
        (reply,) = yield [ask(evolve_prompt(old, way, self.config.words))]
        new = reply.text.strip()
        row: Row = {"instruction": new, "prompt": new, "completion": "", "way": way, "generation": generation}
        parents = (parent["id"],)
        fault = instruction_fault(new, old)
        if fault is None and not pool.new(new):
            fault = "an instruction like it is there"
        if fault is not None or not reply.finished:
            return [Draft(row, key=new, parents=parents, finished=reply.finished, fault=fault)]
        check = [ask(equal_prompt(old, new), temperature=0.0, max_tokens=8)] if self.config.check else []
        *verdict, answer = yield [*check, ask(new)]
        if any(said.text.strip().lower().startswith("equal") for said in verdict):
            fault = "no gain over its parent"
        row["completion"] = answer.text.strip()
        fault = fault or answer_fault(row["completion"])
        return [Draft(row, key=new, parents=parents, finished=answer.finished, fault=fault)]


def evolve_prompt(old: str, way: Way, words: int) -> str:
    """Return the request to evolve an instruction."""
    if way == BREADTH:
        return (
            "Draw inspiration from the instruction below and write a brand-new one of the same domain, but rarer. It "
            "should be about as long and as difficult, and it must be reasonable and possible to answer in text. Write "
            f"the new instruction and nothing else.\n\nInstruction:\n{old}"
        )
    return (
        "Rewrite the instruction below into a somewhat more complex version that people can still understand and "
        f"answer in text. {DEEPER[way]} Keep its tables and code. Do not make it more than {words} words longer. Write "
        f"the rewritten instruction and nothing else.\n\nInstruction:\n{old}"
    )


def equal_prompt(old: str, new: str) -> str:
    """Return the question whether two instructions come to the same."""
    return (
        "Are these two instructions equal? They are if they have the same constraints and requirements and the same "
        f"depth and breadth of inquiry.\n\nFirst:\n{old}\n\nSecond:\n{new}\n\nAnswer with Equal or Not equal."
    )


def instruction_fault(new: str, old: str) -> str | None:
    """Return why an instruction has failed to evolve, or None."""
    if not re.search(r"\w", new):
        return "the instruction has no words"
    if LEAKED.search(new) and not LEAKED.search(old):
        return "the instruction speaks of the prompt"
    return "no gain over its parent" if " ".join(new.split()) == " ".join(old.split()) else None


def answer_fault(text: str) -> str | None:
    """Return why an answer shows that an instruction is of no use, or None."""
    if not re.search(r"\w", text):
        return "the answer has no words"
    if SORRY.search(text) and len(text.split()) < SHORT:
        return "the answer excuses itself"
    return None
