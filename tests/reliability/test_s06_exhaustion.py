"""S6: with far too little memory every request finishes, and says what it says alone."""

from __future__ import annotations

import pytest

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request


@pytest.mark.parametrize("count", [6, pytest.param(64, marks=pytest.mark.slow)])
def test_sixteen_pages_for_many(llm: LLM, count: int) -> None:
    requests = [
        Request(list(range(5, 10 + number % 40)), 20 + number % 7, seed=number, ignore_eos=True, logprobs=2)
        for number in range(count)
    ]
    options = {"numerics": "exact", "page_size": 64, "max_sequences": count}
    crowded = Engine(llm, **options, num_pages=16 if count > 16 else 3, page_order="shuffled")
    together = crowded.generate(requests)
    crowded.check()
    assert crowded.stats().running == crowded.stats().waiting == 0
    alone = Engine(llm, **options)
    for request, output in zip(requests, together, strict=True):
        assert output == alone.generate([request])[0]


def test_preemption_happens_and_changes_nothing(llm: LLM) -> None:
    requests = [Request([5 + n, 6, 7], 100, seed=n, ignore_eos=True, logprobs=2) for n in range(4)]
    options = {"numerics": "exact", "page_size": 64}
    crowded = Engine(llm, **options, num_pages=3)
    # Admission promises pages for prompts only, so that answers outgrow the pool.
    together = crowded.generate(requests)
    assert crowded.stats().preemptions >= 1
    assert together == Engine(llm, **options).generate(requests)


def test_what_can_never_fit_is_refused_at_once(llm: LLM) -> None:
    engine = Engine(llm, num_pages=1, page_size=64)
    with pytest.raises(UsageError, match="whole pool"):
        engine.add(Request([5] * 60, 60))
    assert not engine.has_work
