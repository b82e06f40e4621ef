"""Whatever is guessed, and whoever guesses: texts, log-probs and draws are those of an engine that never does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.engine import speculation
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Output, Request
from hanok.engine.speculative import Draft
from hanok.engine.stats import Stats

from .conftest import MOE, plain, run, told

Target = Callable[[str], LLM]
EARLY = {"kind": "early_exit", "layers": 1}
COPY = {"kind": "ngram", "shortest": 1}
CASES: list[Any] = [
    ("window", COPY),
    ("mla", EARLY),
    ("rglru", EARLY),
    ("hybrid", "draft=rglru"),
    ("mtp", "mtp"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("gqa", COPY),
            ("gqa", EARLY),
            ("gqa", "draft=gqa"),
            ("gqa", "draft=rglru"),
            ("moe", "draft=gqa"),
            ("rglru", "draft=gqa"),
            ("hybrid", COPY),
        ]
    ),
]


def resolved(spec: Any, drafts: dict[str, str], *, drawn: bool = False) -> Any:
    """Return a spec; "draft=NAME" names one of the drafts on disk."""
    if isinstance(spec, str) and spec.startswith("draft="):
        return {"kind": "draft", "model": drafts[spec.removeprefix("draft=")], "tokens": 3, "drawn": drawn}
    return spec


@pytest.fixture(scope="module")
def unguessed(target: Target, requests: list[Request]) -> Callable[[str], tuple[list[Output], Stats]]:
    """Return a function from a kind of memory to what comes out without guesses."""
    known: dict[str, tuple[list[Output], Stats]] = {}

    def ask(kind: str) -> tuple[list[Output], Stats]:
        if kind not in known:
            known[kind] = run(target(kind), requests)
        return known[kind]

    return ask


@pytest.mark.parametrize(("kind", "spec"), CASES)
def test_texts_are_those_without_guesses(
    target: Target, unguessed: Any, drafts: dict[str, str], requests: list[Request], kind: str, spec: Any
) -> None:
    """Guesses that follow from the text: greedy and drawn texts are the same to the last bit of each log-prob."""
    want, before = unguessed(kind)
    got, after = run(target(kind), requests, speculation=resolved(spec, drafts))
    assert [told(output) for output in got] == [told(output) for output in want]
    assert after.drafted_tokens >= after.accepted_tokens and after.drafts > 0
    assert after.generated_tokens == before.generated_tokens == sum(len(output.tokens) for output in got)


def test_a_draft_that_is_always_right_saves_steps(
    target: Target, unguessed: Any, drafts: dict[str, str], requests: list[Request]
) -> None:
    greedy = [replace(request, temperature=0.0) for request in requests]
    roomy = {"num_pages": 60, "max_batch_tokens": 200}
    want, before = run(target("gqa"), greedy, **roomy)
    got, after = run(target("gqa"), greedy, speculation=resolved("draft=same", drafts), **roomy)
    assert [told(output) for output in got] == [told(output) for output in want]
    assert after.accepted_tokens == after.drafted_tokens > 0
    assert after.steps < 0.6 * before.steps


@pytest.mark.parametrize("kind", ["gqa", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_drawn_guesses_depend_on_the_seed_alone(
    target: Target, drafts: dict[str, str], requests: list[Request], kind: str
) -> None:
    """How steps are cut, who is preempted and what the cache holds makes no difference to a request with a seed."""
    spec = resolved("draft=rglru", drafts, drawn=True)
    small, pressed = run(target(kind), requests, speculation=spec, num_pages=3, max_batch_tokens=25)
    roomy = {"num_pages": 60, "max_batch_tokens": 500, "chunk": 64, "prefix_cache": False}
    large, free = run(target(kind), requests, speculation=spec, **roomy)
    assert pressed.steps > free.steps
    assert [told(output) for output in small] == [told(output) for output in large]


def test_control_states_that_are_not_taken_back(
    target: Target, unguessed: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control arm: with the recurrent state left behind failed guesses, texts differ."""

    def forget(self: speculation.Speculation, sequence: Any, row: Any) -> None:
        slot = row.slot
        slot.snapshots[len(sequence.tokens) - 1] = self._pool.store.take_row(slot.row)
        self._pool.truncate(slot, len(sequence.tokens) - 1)

    monkeypatch.setattr(speculation.Speculation, "_take_back", forget)
    got, _ = run(target("rglru"), requests, speculation=EARLY)
    assert [told(output) for output in got] != [told(output) for output in unguessed("rglru")[0]]


def test_limits_and_processors_hold_inside_a_run_of_guesses(target: Target, drafts: dict[str, str]) -> None:
    """Penalties, least and most tokens, stop ids and the context's end, with every guess right or nearly."""
    llm, spec = target("gqa"), resolved("draft=same", drafts)
    prompt = [5, 6, 7, 5, 6, 7]
    first = run(llm, [Request(prompt, 20, temperature=0.0)])[0][0].tokens
    asked = [
        Request(prompt, 20, temperature=0.0, stop_token_ids=[first[6]]),
        Request(prompt, 20, temperature=0.0, stop_token_ids=[first[2]], min_tokens=11),
        Request(prompt, 20, temperature=0.0, repetition_penalty=1.3, frequency_penalty=0.4, logprobs=3),
        Request(prompt, 20, temperature=0.8, presence_penalty=0.5, min_p=0.05, top_p=0.9, seed=4),
        Request(prompt, 7, temperature=0.0, logit_bias={first[3]: -100.0}),
        Request([3] * 100, None, temperature=0.0),
        Request(prompt, 1, temperature=0.0),
    ]
    asked = [replace(request, seed=9) for request in asked]
    roomy = {"num_pages": 60, "max_batch_tokens": 200}
    got, stats = run(llm, asked, speculation=spec, **roomy)
    assert [told(output) for output in got] == [told(output) for output in run(llm, asked, **roomy)[0]]
    assert got[0].finish_reason == "stop" and got[0].tokens[-1] == first[6]
    assert len(got[5].tokens) == 28  # the context's 128, its last token drawn and never read
    assert stats.accepted_tokens > 0


def test_events_carry_several_tokens(chatty: LLM, tmp_path: Any) -> None:
    """Texts, tokens and log-probs of the events are those of the output; a stop string ends a run in its middle."""
    chatty.save(tmp_path / "same")
    plain = Engine(chatty, numerics="exact").generate([Request("hello", 24, temperature=0.0, logprobs=1)])[0]
    stop = plain.text[9:12]
    for request in (
        Request("hello", 24, temperature=0.0, logprobs=1),
        Request("hello", 24, temperature=0.0, logprobs=1, stop=stop),
    ):
        engine = Engine(chatty, numerics="exact", speculation={"kind": "draft", "model": str(tmp_path / "same")})
        engine.add(request)
        events = []
        while engine.has_work:
            events += engine.step()
        output = events[-1].output
        assert output is not None
        want = Engine(chatty, numerics="exact").generate([request])[0]
        assert told(output) == told(want)
        assert "".join(event.text for event in events) == output.text
        assert [token for event in events for token in event.tokens] == output.tokens
        assert [value for event in events for value in event.logprobs or []] == output.logprobs
        assert [top for event in events for top in event.top_logprobs or []] == output.top_logprobs
        assert max(len(event.tokens) for event in events) > 1
    assert stop not in output.text and len(output.text) < len(plain.text)


def test_numbers_that_overflow_only_in_a_guess_harm_nobody() -> None:
    llm = plain({"kind": "gqa", "heads": 4}, {"kind": "swiglu", "hidden": 40}, embeddings="untied")
    with torch.no_grad():
        llm.model.embed.weight[7] = float("inf")
    request = Request([1, 2, 3, 1, 2], 8, temperature=0.0, logit_bias={7: -100.0})
    want = Engine(llm, numerics="exact").generate([request])[0]
    engine = Engine(llm, numerics="exact", speculation="ngram")
    sequence = engine.prepare(request)
    engine.enqueue(sequence)
    engine.step()
    right = want.tokens[1]
    sequence.draft = Draft((right, 7, 7))  # the first is right, what stands behind it is not, nor can it be read
    output = None
    while engine.has_work:
        for event in engine.step():
            assert event.error is None
            output = event.output
        engine.check()
    assert output is not None and told(output) == told(want)


def test_a_draft_of_no_numbers_guesses_nothing(target: Target, tmp_path: Any) -> None:
    broken = target("gqa")
    with torch.no_grad():
        broken.model.embed.weight.fill_(float("nan"))
    broken.save(tmp_path / "broken")
    llm, request = target("gqa"), Request([1, 2, 3], 6, seed=1)
    got, stats = run(llm, [request], speculation={"kind": "draft", "model": str(tmp_path / "broken")})
    assert told(got[0]) == told(run(llm, [request])[0][0])
    assert stats.drafted_tokens == 0


def test_an_abort_in_the_middle_gives_everything_back(target: Target, drafts: dict[str, str]) -> None:
    engine = Engine(target("hybrid"), speculation=resolved("draft=gqa", drafts))
    ids = [engine.add(Request([1, 2, 3, at], 30, temperature=0.0)) for at in range(3)]
    for _ in range(4):
        engine.step()
    for id in ids:
        engine.abort(id)
    engine.check()
    assert engine.speculation is not None
    assert engine.pool.pages_used == engine.speculation.proposer.chain.pool.pages_used == 0  # type: ignore[attr-defined]


def test_what_cannot_work_is_said(target: Target, drafts: dict[str, str], tmp_path: Any) -> None:
    other = plain({"kind": "gqa", "heads": 4}, MOE, vocab=50)
    other.save(tmp_path / "other")
    wrong: list[tuple[Any, str]] = [
        ("gram", "ngram"),
        ({"kind": "ngram", "longest": 1}, "shortest"),
        ({"kind": "draft", "model": str(tmp_path / "other")}, "50 tokens"),
        ({"kind": "draft", "model": str(tmp_path / "nowhere")}, "no directory"),
        ({"kind": "early_exit", "layers": 2}, "first 1 layers"),
        ("mtp", "needs a model"),
        ({"kind": "draft"}, "model"),
    ]
    for spec, says in wrong:
        with pytest.raises(UsageError, match=says):
            Engine(target("gqa"), speculation=spec)
    with pytest.raises(UsageError, match="2 modules"):
        Engine(target("mtp"), speculation={"kind": "mtp", "tokens": 3})
