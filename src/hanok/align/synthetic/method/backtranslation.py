"""Instruction backtranslation: a text that people wrote becomes the answer to an instruction that the model writes."""

from __future__ import annotations

import re
from random import Random
from typing import Literal

from pydantic import Field

from hanok.align.synthetic.ask import Draft, Pool, Row, Writing, ask
from hanok.align.synthetic.method import METHODS
from hanok.align.synthetic.method.base import text_row
from hanok.core.config import PartConfig

SCORE = re.compile(r"\b([1-5])\b")


@METHODS.register("backtranslation", paper="https://arxiv.org/abs/2308.06259")
class Backtranslation:
    """Backtranslation: asks which instruction a document answers, then how well it does, and keeps the good pairs.

    Each document is gone through once, in order; the completion is the document, word for word.
    """

    class Config(PartConfig):
        """The lowest of the model's own scores (1 to 5) that keeps a pair; 0 asks for none."""

        kind: Literal["backtranslation"] = "backtranslation"
        least: int = Field(4, ge=0, le=5)

    makes = "conversations"

    def __init__(self, config: Config) -> None:
        self.config = config

    def seed(self, row: Row, where: str) -> Row:
        """Read a document."""
        return text_row(row, where)

    def turns(self, seeds: int) -> int | None:
        """There is one turn for each document."""
        return seeds

    def write(self, turn: int, rng: Random, pool: Pool) -> Writing:
        """Ask for the instruction, then for the score of the pair."""
        seed = pool.seeds[turn]
        text = seed["text"].strip()
        (reply,) = yield [
            ask(
                "Below is a text. Write the instruction of a user to which this text would be the perfect answer. "
                f"Write the instruction and nothing else.\n\nText:\n{text}"
            )
        ]
        asked = reply.text.strip()
        row: Row = {"instruction": asked, "prompt": asked, "completion": text}
        fault = None if re.search(r"\w", asked) else "the instruction has no words"
        if fault is None and reply.finished and self.config.least:
            (judged,) = yield [
                ask(
                    "How well does the answer below answer the instruction, as a helpful assistant would? 1: off the "
                    "topic or incomplete. 3: helpful, but not written for this user. 5: perfect.\n\n"
                    f"Instruction:\n{asked}\n\nAnswer:\n{text}\n\nReply with the number alone.",
                    temperature=0.0,
                    max_tokens=8,
                )
            ]
            found = SCORE.search(judged.text)
            row["score"] = int(found.group(1)) if found else None
            if found is None or int(found.group(1)) < self.config.least:
                fault = f"the model's own score is below {self.config.least}"
        return [Draft(row, key=asked, parents=(seed["id"],), finished=reply.finished, fault=fault)]
