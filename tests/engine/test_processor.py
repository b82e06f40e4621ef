"""Processors: each against transformers' own or the published formula, on texts and behind guesses alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as theirs

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.processor import PROCESSORS, Place, process
from hanok.engine.request import Request
from hanok.engine.sampler import SAMPLERS
from hanok.engine.sequence import Sequence
from hanok.engine.tally import Tally

VOCAB = 13
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=9)


def sequence(prompt: list[int], drawn: list[int], **options: Any) -> Sequence:
    """A sequence as the engine would hold it, its words in token ids."""
    request = Request(prompt, 99, **options)
    made = Sequence(0, request, prompt=prompt, max_tokens=99, stop_ids=[2], seed=0, text=None)
    made.bad_words = tuple(request.bad_words)  # type: ignore[arg-type]
    for token in drawn:
        made.tokens.append(token)
    return made


def logits_of(seed: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 4


def reference(row_V: Tensor, prompt: list[int], answer: list[int], options: dict[str, Any]) -> Tensor:
    """The chain by transformers and by OpenAI's formula: one row, one text."""
    row_1V, ids_1T = row_V[None].double(), torch.tensor([[*prompt, *answer]])
    bias = options.get("logit_bias")
    if bias:
        row_1V = theirs.SequenceBiasLogitsProcessor([[[id], value] for id, value in bias.items()])(ids_1T, row_1V)
    if options.get("repetition_penalty", 1) != 1:
        row_1V = theirs.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"])(ids_1T, row_1V)
    for token, count in Counter(answer).items():  # https://platform.openai.com/docs/api-reference/chat/create
        row_1V[0, token] -= options.get("frequency_penalty", 0) * count + options.get("presence_penalty", 0)
    words = options.get("bad_words")
    if words:
        row_1V = theirs.NoBadWordsLogitsProcessor([list(word) for word in words])(ids_1T, row_1V)
    if len(answer) < options.get("min_tokens", 0):
        row_1V[0, 2] = -torch.inf
    return row_1V[0]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "repetition_penalty": st.sampled_from([0.7, 1.3, 5.0]),
        "presence_penalty": st.sampled_from([-1.5, 0.5, 2.0]),
        "frequency_penalty": st.sampled_from([-0.5, 0.25, 2.0]),
        "logit_bias": st.dictionaries(
            st.integers(0, VOCAB - 1), st.sampled_from([-100.0, -3.0, 0.5, 100.0]), max_size=4
        ),
        "bad_words": st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3), max_size=3),
        "min_tokens": st.sampled_from([1, 4]),
    },
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(TOKENS, TOKENS, TOKENS, OPTIONS), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_rows_equal_transformers(rows: list[tuple[list[int], list[int], list[int], dict[str, Any]]], seed: int) -> None:
    """A mixed batch, each row behind its own prompt, answer and guesses, is what the reference makes of it alone."""
    logits = logits_of(seed, len(rows)).double()
    before = logits.clone()
    places = [Place(sequence([1, *p], drawn, **options), tuple(draft)) for p, drawn, draft, options in rows]
    got = process(logits, places)
    assert torch.equal(logits, before)  # never in place
    for at, (prompt, drawn, drafted, options) in enumerate(rows):
        want = reference(before[at], [1, *prompt], [*drawn, *drafted], options)
        if (want > -torch.inf).any():  # a ban that leaves nothing is not obeyed
            torch.testing.assert_close(got[at], want, rtol=1e-12, atol=1e-12)
        assert (got[at] > -torch.inf).any()


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(TOKENS, TOKENS), max_size=6), start=st.integers(0, 4))
def test_tallies_follow_growing_texts(steps: list[tuple[list[int], list[int]]], start: int) -> None:
    """However a text grows, and whatever is guessed in between, the counts are those of the text."""
    tally, tokens = Tally(), [0] * start
    for new, drafted in steps:
        tokens += new
        ids, counts = tally.read(tokens, start, drafted)
        found = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        assert found == Counter([*tokens[start:], *drafted]) and len(found) == len(ids)


def test_tallies_of_large_vocabularies() -> None:
    ids, counts = Tally().read(list(range(1000)), 0)
    assert ids.tolist() == list(range(1000)) and set(counts.tolist()) == {1}


@pytest.mark.parametrize("mass", [0.05, 0.3, 0.7, 0.95])
def test_typical_p_equals_transformers(mass: float) -> None:
    logits = logits_of(5, 64).double()
    got = SAMPLERS["typical_p"].apply(logits, torch.full((64, 1), mass, dtype=torch.float64))
    want = theirs.TypicalLogitsWarper(mass)(torch.zeros(64, 1, dtype=torch.int64), logits)
    assert torch.equal(got, want) and (got == -torch.inf).any()


def test_typical_p_behind_a_filter() -> None:
    """Tokens that are out already neither count nor come back."""
    logits = torch.tensor([[2.0, 1.0, 0.0, -torch.inf, -torch.inf]], dtype=torch.float64)
    got = SAMPLERS["typical_p"].apply(logits, torch.tensor([[0.9999]], dtype=torch.float64))
    assert torch.equal(got, logits)


def test_a_plain_request_meets_no_processor() -> None:
    """Nothing is computed, not even a copy, for requests that ask for nothing."""
    logits = logits_of(1, 3)
    assert process(logits, [Place(sequence([1], [2, 3])) for _ in range(3)]) is logits


def test_the_tail_of_a_place() -> None:
    place = Place(sequence([1, 2], [3, 4]), (5, 6))
    assert [place.tail(n) for n in (0, 1, 2, 3, 9)] == [[], [6], [5, 6], [4, 5, 6], [1, 2, 3, 4, 5, 6]]
    assert place.drawn == 4 and place.generated == [3, 4, 5, 6]


def test_each_processor_says_what_it_is() -> None:
    assert {"repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "bad_words"} <= set(PROCESSORS)
    assert all(entry.summary for entry in PROCESSORS.describe())
    orders = [PROCESSORS[name].order for name in PROCESSORS]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("options", [{"repetition_penalty": 1.7}, {"presence_penalty": 1.5, "frequency_penalty": 0.8}])
def test_greedy_decoding_with_penalties(build: Callable[..., LLM], options: dict[str, float]) -> None:
    """The engine's text is that of a loop of whole forwards with the reference behind each, preempted or not."""
    llm = build("gqa")
    prompts = [[5, 6, 7, 5], [9, 9, 9]]
    wants = []
    for prompt in prompts:
        answer: list[int] = []
        for _ in range(20):
            with torch.no_grad():
                row = llm.model(torch.tensor([[*prompt, *answer]]))[0, -1]
            answer.append(int(reference(row, prompt, answer, options).argmax()))
        wants.append(answer)
    requests = [Request(prompt, 20, temperature=0, **options) for prompt in prompts]  # type: ignore[arg-type]
    tight = Engine(llm, num_pages=8, page_size=4)  # too few pages for both at once
    assert [output.tokens for output in Engine(llm).generate(requests)] == wants
    assert [output.tokens for output in tight.generate(requests)] == wants
    assert tight.stats().preemptions > 0
    plain = Engine(llm).generate([Request(prompt, 20, temperature=0) for prompt in prompts])
    assert [output.tokens for output in plain] != wants  # control arm: the penalties matter


def test_bad_words_never_appear(chatty: LLM) -> None:
    """Words are forbidden as a text begins with them and behind a blank; single tokens as ids."""
    free = chatty.generate("hello", 60, temperature=1.0, seed=3, ignore_eos=True)
    words = [[free.tokens[0]], free.tokens[3:5], free.tokens[7:10]]
    out = chatty.generate("hello", 60, temperature=1.0, seed=3, ignore_eos=True, bad_words=words)
    pairs = [out.tokens[at : at + len(word)] for word in words for at in range(len(out.tokens))]
    assert not any(word in pairs for word in words) and words[0][0] in free.tokens
    text = chatty.generate([5], 40, temperature=0, logit_bias={chatty.tokenizer.encode("h")[0]: 100.0}, bad_words=["h"])  # type: ignore[union-attr]
    assert "h" not in text.text


def test_logit_bias_decides(chatty: LLM) -> None:
    assert chatty.generate([5], 4, temperature=0, logit_bias={77: 100.0}).tokens == [77] * 4
    assert 77 not in chatty.generate([5], 200, temperature=1.5, logit_bias={77: -100.0}, ignore_eos=True).tokens


def test_ids_beyond_the_vocabulary_are_refused(chatty: LLM) -> None:
    for options in ({"logit_bias": {300: 1.0}}, {"bad_words": [[300]]}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}.*vocabulary"):
            chatty.generate([5], 4, **options)
