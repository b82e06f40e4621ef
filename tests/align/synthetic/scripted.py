"""Writers whose answers are computed, and a run of them in a process of its own, to be killed."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hanok.align.synthetic.ask import Ask, Reply, Row
from hanok.align.synthetic.journal import Journal
from hanok.align.synthetic.judge import Judge
from hanok.align.synthetic.method.evol_instruct import EvolInstruct
from hanok.align.synthetic.write import Plan, Run
from hanok.core.log import Log

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu", "nu", "xi", "rho"]
SEEDS = [{"instruction": f"Explain {word} to a child", "output": word} for word in WORDS[:4]]


class Scripted:
    """Answers with words that the question and its seed decide; counts what it was asked."""

    name = "scripted"

    def __init__(self, *, pause: float = 0.0) -> None:
        self.asked, self.pause = 0, pause

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply]]:
        """Answer in an order that is not that of the questions."""
        for at in sorted(range(len(asks)), key=lambda at: asks[at].seed):
            time.sleep(self.pause)
            self.asked += 1
            yield at, self.answer(asks[at])

    def answer(self, ask: Ask) -> Reply:
        """Return eight words; questions for a verdict get one."""
        text = ask.messages[-1]["content"]
        if "Equal or Not equal" in text:
            return Reply("Equal" if ask.seed % 7 == 0 else "Not equal")
        digest = hashlib.sha256(f"{ask.seed} {text}".encode()).digest()
        return Reply(" ".join(WORDS[byte % len(WORDS)] for byte in digest[:8]), finished=digest[9] > 12)


PLAN = Plan(rows=40, batch=6, patience=20, max_tokens=32, temperature=0.7, seed=3)


def run(file: Path, writer: Scripted, plan: Plan = PLAN) -> list[Row]:
    """Return the rows of a run whose journal is in `file`."""
    method = EvolInstruct(EvolInstruct.Config())
    judge = Judge(novelty=0.7, verifier=None)
    with Journal(file) as journal:
        return Run(method, writer, judge, journal, plan, Log(None, quiet=True)).rows(SEEDS)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Scripted(pause=0.004))
