"""Several answers to one prompt, and log-probs of the prompt itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import hanok
from hanok.core.errors import UsageError
from hanok.engine.choices import best, choices, spread
from hanok.engine.choose import log_probs
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request


def test_n_answers(build: Callable[..., LLM]) -> None:
    """The first is the answer that comes without n; the others differ, and come again with the same seed."""
    llm, options = build("gqa"), {"temperature": 1.0, "seed": 7}
    several = [output.tokens for output in llm.generate([1, 2], 9, n=4, **options)]
    assert several[0] == llm.generate([1, 2], 9, **options).tokens and len(set(map(tuple, several))) == 4
    assert [output.tokens for output in llm.generate([1, 2], 9, n=4, **options)] == several
    rows = [[output.tokens for output in row] for row in llm.generate([[1, 2], [3]], 9, n=2, **options)]
    assert len(rows) == 2 and rows[0] == several[:2] and len(rows[1]) == 2


def test_best_of(build: Callable[..., LLM]) -> None:
    llm = build("gqa")
    every = llm.generate([1, 2], 9, temperature=1.0, seed=7, n=6)
    means = sorted((sum(output.logprobs) / 9 for output in every), reverse=True)
    kept = llm.generate([1, 2], 9, temperature=1.0, seed=7, n=2, best_of=6)
    assert [sum(output.logprobs) / 9 for output in kept] == pytest.approx(means[:2])
    assert llm.generate([1, 2], 9, temperature=1.0, seed=7, best_of=6).tokens == kept[0].tokens
    assert [every[at].tokens for at in best(every, 2)] == [output.tokens for output in kept]
    for n, best_of in ((0, None), (3, 2), (1, 129)):
        with pytest.raises(UsageError, match="best_of"):
            llm.generate([1], 2, n=n, best_of=best_of)


def test_seeds_of_choices() -> None:
    assert spread(None, 3) is None and spread(5, 0) == 5
    assert len({spread(5, at) for at in range(100)}) == 100
    assert [request.logprobs for request in choices(Request([1], logprobs=3), 2)] == [3, 3]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("gqa", torch.float32), ("gqa", torch.bfloat16), ("window", torch.float32), ("hybrid", torch.float32)],
    ids=str,
)
def test_prompt_logprobs_equal_a_whole_forward(build: Callable[..., LLM], kind: str, dtype: torch.dtype) -> None:
    """Chunks, other requests, preemption and a second asking: the bits of one forward over the prompt."""
    llm = build(kind, dtype)
    prompts = [[(7 * at + 3 * length) % 97 for at in range(length)] for length in (1, 30, 62, 62)]
    requests = [Request(prompt, 8, temperature=0.0, prompt_logprobs=3) for prompt in prompts]
    engine = Engine(llm, numerics="exact", chunk=16, num_pages=6, max_batch_tokens=48)
    for _ in range(2):  # the second time, what was computed may be there already
        for prompt, output in zip(prompts, engine.generate(requests), strict=True):
            with hanok.numerics("exact"), torch.no_grad():
                want = llm.logprobs(torch.tensor([prompt]))[0].tolist()
                table = log_probs(llm.model(torch.tensor([prompt])))[0]
            assert output.prompt_logprobs == [None, *want]
            assert output.prompt_top_logprobs is not None and output.prompt_top_logprobs[0] is None
            for row, top in zip(table, output.prompt_top_logprobs[1:], strict=False):
                values, ids = row.topk(3)
                assert top == list(zip(ids.tolist(), values.tolist(), strict=True))
    if kind == "gqa":  # the others give back what they no longer look at
        assert engine.stats().preemptions > 0


def test_prompt_logprobs_only_where_asked(build: Callable[..., LLM]) -> None:
    llm = build("gqa")
    plain, scored, bare = Engine(llm).generate(
        [Request([1, 2, 3], 4, temperature=0.0, prompt_logprobs=n) for n in (None, 1, 0)]
    )
    assert plain.prompt_logprobs is None and plain.prompt_top_logprobs is None
    assert scored.prompt_logprobs == bare.prompt_logprobs and bare.prompt_top_logprobs is None
    assert plain.tokens == scored.tokens
