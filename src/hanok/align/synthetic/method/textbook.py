"""Textbook prompts: passages that teach, on drawn topics for drawn readers."""

from __future__ import annotations

from random import Random
from typing import Literal

from pydantic import Field

from hanok.align.synthetic.ask import Draft, Pool, Row, Writing, ask
from hanok.align.synthetic.method import METHODS
from hanok.align.synthetic.method.base import text_row
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError

READERS = ("young children", "middle school students", "high school students", "college students", "practitioners")
FORMS = (
    "a textbook section that builds up from what the reader knows and works through an example",
    "a lesson in which a teacher answers a student's questions",
    "a story whose course depends on the idea",
    "a tutorial of numbered steps, with the reason for each",
    "an exercise with a solution that explains each step",
)
HEAD, EXTRACT = 64, 1200  # words whose novelty is compared; characters of a seed that are shown


@METHODS.register("textbook", paper="https://arxiv.org/abs/2306.11644")
class Textbook:
    """Textbook prompts: asks for passages that teach, spread over topics, readers and forms.

    A seed is an extract (`text`) that the passage is to be about, or a `topic`. The rows have one column of text, for
    pre-training. That a passage is new is judged by its beginning.
    """

    class Config(PartConfig):
        """Whom the passages address, what forms they take, and the language that they are asked for in."""

        kind: Literal["textbook"] = "textbook"
        readers: tuple[str, ...] = Field(READERS, min_length=1)
        forms: tuple[str, ...] = Field(FORMS, min_length=1)
        language: str = "the language of the topic"

    makes = "text"

    def __init__(self, config: Config) -> None:
        self.config = config

    def seed(self, row: Row, where: str) -> Row:
        """Read a topic or an extract."""
        if isinstance(row.get("topic"), str) and row["topic"].strip():
            return {"topic": row["topic"]}
        if "text" not in row:
            raise UsageError(f"{where}: a seed needs the column 'topic' or 'text', it has {list(row)}")
        return text_row(row, where)

    def turns(self, seeds: int) -> int | None:
        """There is no end."""
        return None

    def write(self, turn: int, rng: Random, pool: Pool) -> Writing:
        """Ask for one passage."""
        seed, reader, form = rng.choice(pool.seeds), rng.choice(self.config.readers), rng.choice(self.config.forms)
        if "topic" in seed:
            about = f"on this topic: {seed['topic']}"
        else:
            about = f"on what this extract is about, without repeating it:\n\n{seed['text'][:EXTRACT]}\n"
        (reply,) = yield [
            ask(
                f"Write {form}, {about}\nThe readers are {reader}. Write in {self.config.language}. Be correct and "
                "self-contained, prefer reasons to lists of facts, and write the passage and nothing else."
            )
        ]
        text = reply.text.strip()
        row = {"text": text, "reader": reader, "form": form}
        head = " ".join(text.split()[:HEAD])
        return [Draft(row, key=head, parents=(seed["id"],), finished=reply.finished)]
