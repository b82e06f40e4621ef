"""Rejection sampling: many answers to questions whose answer can be checked; a verifier keeps the right ones."""

from __future__ import annotations

from random import Random
from typing import Literal

from pydantic import Field

from hanok.align.synthetic.ask import Ask, Draft, Pool, Row, Writing
from hanok.align.synthetic.method import METHODS
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError, suggest
from hanok.text.chat.message import check_messages


@METHODS.register("solve", paper="https://arxiv.org/abs/2308.01825")
class Solve:
    """Rejection sampling: answers each question `samples` times; the rewards decide, equal answers count once.

    A seed is a row of `prompt` (a text or messages) and the columns that the rewards read: `answer`, `task`.
    """

    class Config(PartConfig):
        """How many answers are drawn for each question."""

        kind: Literal["solve"] = "solve"
        samples: int = Field(4, ge=1)

    makes = "conversations"

    def __init__(self, config: Config) -> None:
        self.config = config

    def seed(self, row: Row, where: str) -> Row:
        """Read a prompt with its columns."""
        if "prompt" not in row:
            raise UsageError(f"{where}: a seed needs the column 'prompt'{suggest('prompt', row)}")
        if not isinstance(row["prompt"], str):
            check_messages(row["prompt"], where=f"{where}: prompt")
        return {key: value for key, value in row.items() if key not in ("id", "completion")}

    def turns(self, seeds: int) -> int | None:
        """Each question has `samples` turns."""
        return seeds * self.config.samples

    def write(self, turn: int, rng: Random, pool: Pool) -> Writing:
        """Answer one question once; all are answered once before any is answered twice."""
        seed = pool.seeds[turn % len(pool.seeds)]
        prompt = seed["prompt"]
        (reply,) = yield [Ask([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)]
        columns = {key: value for key, value in seed.items() if key != "id"}
        row = {**columns, "completion": reply.text.strip()}
        return [Draft(row, parents=(seed["id"],), finished=reply.finished)]
