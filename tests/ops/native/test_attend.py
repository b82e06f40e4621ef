"""Attention by the kernels: right within rounding, and each token's bits its own whoever reads beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from hanok.ops.attention import PLAIN, Scoring, scored_attention, seen_within
from hanok.ops.native.attend import attend, where

PAGE = 8
SINKS = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.0, -2.0])
SLOPES = torch.tensor([0.5, 0.25, 0.12, 0.06, 0.03, 0.01])
HOW = {
    "plain": PLAIN,
    "softcap": Scoring(softcap=3.0),
    "alibi": Scoring(bias=lambda apart: -SLOPES.view(-1, *[1] * apart.ndim) * apart),
    "sinks": Scoring(sinks=SINKS),
}


class Case(NamedTuple):
    """Numbers of query heads and of key heads, and the sizes of a key and of a value."""

    heads: int
    keys: int
    key: int
    value: int


CASES = [Case(6, 2, 16, 64), Case(6, 6, 13, 5), Case(6, 1, 40, 75), Case(6, 3, 64, 128)]


def pool(case: Case, pages: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    shape = (case.keys, (pages + 1) * PAGE)
    return torch.randn(*shape, case.key, generator=g).to(dtype), torch.randn(*shape, case.value, generator=g).to(dtype)


def step(lengths: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions, sequences and page tables of tokens from `start` on, as many as are given for each sequence."""
    wide = -(-max(start + count for start, count in lengths) // PAGE)
    table = np.random.default_rng(0).permutation(len(lengths) * wide).reshape(len(lengths), wide) + 1
    positions = np.concatenate([np.arange(start, start + count) for start, count in lengths])
    rows = np.repeat(np.arange(len(lengths)), [count for _, count in lengths])
    return positions, rows, table


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("window", [None, 5, 21])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_prompts_tokens_are_those_of_single_steps(
    library: Any, case: Case, how: str, window: int | None, dtype: torch.dtype
) -> None:
    lengths = [(0, 37), (19, 1), (30, 18), (3, 2)]  # prompts from the start and in the middle, and answers
    positions, rows, table = step(lengths)
    g = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(len(rows), heads, width, generator=g).to(dtype)
        for heads, width in ((case.heads, case.key), (case.keys, case.key), (case.keys, case.value))
    )
    wanted = (0.3, window, HOW[how])
    keys, values = pool(case, table.max(), dtype)
    alone = (keys.clone(), values.clone())
    together = attend(library, where(positions, rows, table, PAGE), (q, k, v), keys, values, wanted)
    singly = [
        attend(library, where(positions[t], rows[t], table, PAGE), (q[t], k[t], v[t]), *alone, wanted)
        for t in (slice(at, at + 1) for at in range(len(rows)))
    ]
    assert torch.equal(together, torch.cat(singly))
    assert torch.equal(keys, alone[0]) and torch.equal(values, alone[1]), "and both remember the same"
    for sequence, (start, count) in enumerate(lengths):
        slots = torch.from_numpy(table[sequence][:, None] * PAGE + np.arange(PAGE)).flatten()[: start + count]
        apart = torch.arange(start, start + count)[:, None] - torch.arange(start + count)
        past = (keys[:, slots].float().transpose(0, 1)[None], values[:, slots].float().transpose(0, 1)[None])
        mine = torch.from_numpy(rows == sequence)
        theirs = scored_attention(
            (q[mine].float()[None], *past), apart[None], seen_within(apart[None], window), 0.3, HOW[how]
        )
        close = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(together[mine].float(), theirs[0], **close)
