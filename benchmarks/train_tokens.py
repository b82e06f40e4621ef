"""Training tokens per second against transformers: the same model, data, optimiser (AdamW) and precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from common import MEDIUM, SMALL, arguments, interleave, report, twins

from hanok.core.rng import Streams
from hanok.train.loop import LoopConfig, computing, update
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.plan.example import Copies, next_tokens
from hanok.train.state import TrainState

SHAPES = {"1 M, length 128": (SMALL, 128), "11 M, length 256": (MEDIUM, 256)}
BATCH = 8
Compute = Literal["float32", "bfloat16"]


def our_step(model: Any, source: Copies, compute: Compute) -> Callable[[], object]:
    """Return a step of hanok's loop: forward, backward, clip, AdamW."""
    config = LoopConfig(compute=compute)
    state = TrainState(model, AdamW(AdamWConfig(lr=1e-4), model), source, 1, rng=Streams(0))
    objective = NextToken(NextToken.Config())

    def step() -> None:
        with computing(config):
            update(state, objective, config, 1.0)

    return step


def their_step(model: Any, tokens: torch.Tensor, compute: Compute) -> Callable[[], object]:
    """Return the same step with transformers' model and torch's optimiser, as its users write it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bfloat16"):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def main() -> None:
    options = arguments(__doc__ or "")
    computes: tuple[Compute, ...] = ("float32", "bfloat16")
    for name, (shape, length) in SHAPES.items():
        for compute in computes:
            llm, theirs = twins(**shape)
            source = Copies(next_tokens(shape["vocab_size"], BATCH, length))
            steps = our_step(llm.model, source, compute), their_step(theirs.train(), source.batch.tokens, compute)
            times = interleave(*steps, options.rounds)
            report(f"train {name}, {compute}", BATCH * length, times, as_json=options.json)


if __name__ == "__main__":
    main()
