"""The run: rounds of conversations with the model, each of which can be brought back from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from hanok.align.synthetic.ask import Ask, Draft, Method, Pool, Reply, Row, Writer, Writing
from hanok.align.synthetic.journal import Journal
from hanok.align.synthetic.judge import Judge
from hanok.core.config import digest
from hanok.core.errors import HanokError
from hanok.core.log import Log
from hanok.core.rng import derive

KEY = "key"  # what a journal row keeps for itself: the text that must be new


@dataclass(frozen=True)
class Plan:
    """How many rows are wanted, how many turns a round has, when to give up, and how the model is asked."""

    rows: int | None
    batch: int
    patience: int
    max_tokens: int
    temperature: float
    seed: int


@dataclass
class Run:
    """One run of a method: what it draws from, who answers, who judges, and where it is written down."""

    method: Method
    writer: Writer
    judge: Judge
    journal: Journal
    plan: Plan
    log: Log

    def rows(self, seeds: Sequence[Row]) -> list[Row]:
        """Return the rows, made or brought back; every reply is in the journal before anything is made of it."""
        seeds = [{**row, "id": f"seed-{at}"} for at, row in enumerate(seeds)]
        for row in seeds:
            self.judge.know(row["id"], row, row.get("instruction"))
        kept: list[Row] = []
        for closed in self.journal.rounds:
            for row in closed["rows"]:
                self.judge.know(row["id"], row, row[KEY])
            kept += closed["rows"]
        while not self._done(len(kept), len(seeds)):
            pool = Pool(seeds, tuple(kept), self.judge.new)
            named = self._round(pool, len(seeds))
            found, dropped = self.judge.sift(named)
            rows = [
                {"id": name, **draft.row, "parents": list(draft.parents), "model": self.writer.name, KEY: draft.key}
                for name, draft in found
            ]
            self.journal.close_round(rows, dropped)
            kept += rows
            aim = f" of {self.plan.rows}" if self.plan.rows else ""
            self.log.progress(f"round {len(self.journal.rounds)}: {len(kept)}{aim} rows")
        rows = kept[: self.plan.rows]
        return [{name: value for name, value in row.items() if name != KEY} for row in rows]

    def _done(self, kept: int, seeds: int) -> bool:
        """Say whether there are rows enough, or no turn is left, or the last rounds brought nothing."""
        if self.plan.rows is not None and kept >= self.plan.rows:
            return True
        turns = self.method.turns(seeds)
        if turns is not None and len(self.journal.rounds) * self.plan.batch >= turns:
            return True
        last = self.journal.rounds[-self.plan.patience :]
        if len(last) == self.plan.patience and not any(closed["rows"] for closed in last):
            if turns is not None:
                return False  # it has an end of its own
            if not kept:
                raise HanokError(f"{len(last)} rounds brought no row; the last was dropped because: {_why(last)}")
            self.log.info(f"the last {len(last)} rounds brought no new row: {kept} rows are all; {_why(last)}")
            return True
        return False

    def _round(self, pool: Pool, seeds: int) -> list[tuple[str, Draft]]:
        """Go through one round of turns, all conversations in step, and return its drafts by name, in order."""
        number, batch = len(self.journal.rounds), self.plan.batch
        turns = self.method.turns(seeds)
        first = number * batch
        places = range(first, first + batch if turns is None else min(first + batch, turns))
        talks = {at: self.method.write(at, Random(derive(self.plan.seed, f"turn {at}")), pool) for at in places}
        sent: dict[int, list[Reply] | None] = dict.fromkeys(talks)
        done: dict[int, list[Draft]] = {}
        step = 0
        while sent:
            asks: dict[str, Ask] = {}
            waiting: dict[int, list[str]] = {}
            for at, replies in sent.items():
                asked, done[at] = _advance(talks[at], replies)
                if asked is not None:
                    keys = [f"{at}.{step}.{n}" for n in range(len(asked))]
                    asks |= {key: self._ask(key, one) for key, one in zip(keys, asked, strict=True)}
                    waiting[at] = keys
            found = self._replies(asks)
            sent = {at: [found[key] for key in keys] for at, keys in waiting.items()}
            step += 1
        return [(f"{at}-{n}", draft) for at in places for n, draft in enumerate(done[at])]

    def _replies(self, asks: dict[str, Ask]) -> dict[str, Reply]:
        """Return the replies, from the journal where they are there already."""
        hashes = {key: digest(asdict(one)) for key, one in asks.items()}
        found = {key: reply for key in asks if (reply := self.journal.reply(key, hashes[key])) is not None}
        missing = [key for key in asks if key not in found]
        for place, reply in self.writer([asks[key] for key in missing]) if missing else ():
            key = missing[place]
            # JSON can carry half of a character, which is no Unicode text and fits into no file.
            reply = replace(reply, text=reply.text.encode(errors="replace").decode())
            self.journal.add(key, hashes[key], reply)
            found[key] = reply
        lost = [key for key in asks if key not in found]
        if lost:
            raise HanokError(f"{self.writer.name} left {len(lost)} of {len(asks)} questions without a reply")
        return found

    def _ask(self, key: str, one: Ask) -> Ask:
        """Return a question with the run's settings where it has none of its own, and a seed that is its alone."""
        return replace(
            one,
            temperature=self.plan.temperature if one.temperature is None else one.temperature,
            max_tokens=one.max_tokens or self.plan.max_tokens,
            seed=derive(self.plan.seed, f"ask {key}") % 2**31,
        )


def _advance(talk: Writing, replies: list[Reply] | None) -> tuple[list[Ask] | None, list[Draft]]:
    """Return the next questions of a conversation, or None and its drafts if it has ended."""
    try:
        return (next(talk) if replies is None else talk.send(replies)), []
    except StopIteration as end:
        return None, end.value


def _why(rounds: list[dict[str, Any]]) -> str:
    reasons = [reason for closed in rounds for _, reason in closed["dropped"]]
    return reasons[-1] if reasons else "the model proposed nothing that could be read"
