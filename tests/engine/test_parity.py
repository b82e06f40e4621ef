"""The contract of exact numerics: the trainer's log-probs and the engine's are the same numbers, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.ops.numerics import numerics

Build = Callable[..., LLM]


def gap(llm: LLM, mode: str, *, count: int = 64, threads: int = 1) -> float:
    """Generate for many requests and return the largest difference between the forward's log-probs and the engine's.

    `threads` is for the forward; the engine runs on one.
    """
    rng = random.Random(0)
    requests = [
        Request(
            [rng.randrange(97) for _ in range(rng.randrange(1, 150))],
            rng.randrange(1, 40),
            temperature=1.0,
            seed=i,
            logprobs=0,
        )
        for i in range(count)
    ]
    engine = Engine(llm, numerics=mode, page_order="shuffled", chunk=29, max_batch_tokens=150, num_pages=70)
    outputs = engine.generate(requests)
    engine.check()
    assert len({output.prompt_tokens for output in outputs}) > count // 3
    torch.set_num_threads(threads)
    worst = 0.0
    with numerics(mode):
        for output in outputs:
            want = llm.logprobs(torch.tensor([output.prompt_ids + output.tokens]))[0, output.prompt_tokens - 1 :]
            worst = max(worst, float((want - torch.tensor(output.logprobs)).abs().max()))
    return worst


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *((kind, torch.float32) for kind in ("gqa", "rglru")),
        *(pytest.param(kind, torch.bfloat16, marks=pytest.mark.slow) for kind in ("gqa", "rglru", "hybrid")),
        pytest.param("hybrid", torch.float32, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_exact_is_exact(build: Build, kind: str, dtype: torch.dtype) -> None:
    assert gap(build(kind, dtype), "exact") == 0.0


@pytest.mark.parametrize("kind", ["gqa", "rglru"])
def test_the_number_of_threads_changes_nothing(build: Build, kind: str) -> None:
    assert gap(build(kind, torch.float32), "exact", count=6, threads=2) == 0.0


def test_fast_shows_the_difference(build: Build) -> None:
    """Control arm: without the guard the same measurement is not zero."""
    assert 0 < gap(build("gqa", torch.float32), "fast") < 1e-3


def test_padding_of_the_forward_changes_nothing(build: Build) -> None:
    """The trainer may score sequences in one padded batch: the bits are those of each alone."""
    llm = build("hybrid", torch.float32)
    rows = [torch.randint(0, 97, (n,)) for n in (9, 40, 77)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    with numerics("exact"):
        together = llm.logprobs(padded)
        for row, got in zip(rows, together, strict=True):
            assert torch.equal(got[: len(row) - 1], llm.logprobs(row[None])[0])
