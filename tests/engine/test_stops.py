"""Stop strings: never shown, not even in part, wherever the borders between pieces fall."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.engine.stops import StopText
from hanok.text.tokenizer import Tokenizer

WORDS = st.text("ab한", max_size=14)


def cut(text: str, stops: list[str]) -> str:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(found)] if found else text


@given(text=WORDS, stops=st.lists(st.text("ab한", min_size=1, max_size=4), max_size=3), seed=st.integers(0, 99))
def test_any_borders(text: str, stops: list[str], seed: int) -> None:
    """Whatever the pieces, no part of a stop string is ever shown, and nothing else is lost."""
    rng, watch, shown = random.Random(seed), StopText(stops), ""
    at = 0
    while at < len(text) and not watch.stopped:
        size = rng.randrange(1, 4)
        shown += watch.push(text[at : at + size])
        at += size
        want = cut(text[:at], stops)
        assert want.startswith(shown)
        # What is held back is the beginning of a stop string.
        held = want[len(shown) :]
        assert watch.stopped or not held or any(stop.startswith(held) for stop in stops)
    shown += "" if watch.stopped else watch.finish()
    assert shown == cut(text[:at], stops) and watch.stopped == any(stop in text[:at] for stop in stops)


def test_the_first_to_appear_wins() -> None:
    watch = StopText(["world", "o w"])
    assert watch.push("hello world") == "hell" and watch.stopped


@pytest.fixture(scope="module")
def llm(build: Callable[..., LLM]) -> LLM:
    tokenizer = Tokenizer.train(["가나다 abc 하하 the cat sat on the mat"] * 3, vocab_size=300)
    return LLM(build("gqa", vocab=300).model, tokenizer)


def test_engine_trims_stop_strings(llm: LLM) -> None:
    """Stops taken from the middle of the free text, across token borders: the text ends right before them."""
    free = Engine(llm).generate([Request("the", 40, temperature=1.5, seed=1, ignore_eos=True)])[0]
    assert llm.tokenizer is not None and len(free.text) > 20
    for start, size in [(3, 1), (4, 5), (9, 3), (11, 7)]:
        stop = free.text[start : start + size]
        request = Request("the", 40, temperature=1.5, seed=1, ignore_eos=True, stop=[stop, "never seen"])
        engine = Engine(llm)
        engine.add(request)
        texts, output = [], None
        while engine.has_work:
            for event in engine.step():
                texts.append(event.text)
                output = event.output
        assert output is not None and output.finish_reason == "stop"
        assert output.text == "".join(texts) == cut(free.text, [stop])
        assert free.tokens[: len(output.tokens)] == output.tokens  # the tokens keep what was drawn
        assert stop in llm.tokenizer.decode(output.tokens)


def test_min_tokens_outlasts_a_stop_string(llm: LLM) -> None:
    options = {"temperature": 1.5, "seed": 1, "ignore_eos": True}
    free = Engine(llm).generate([Request("the", 40, **options)])[0]  # type: ignore[arg-type]
    output = Engine(llm).generate([Request("the", 40, stop=free.text[:2], min_tokens=30, **options)])[0]  # type: ignore[arg-type]
    assert len(output.tokens) >= 30 and output.text.startswith(free.text[:2])


def test_a_stop_token_is_not_in_the_text(llm: LLM) -> None:
    free = Engine(llm).generate([Request("the", 30, temperature=0)])[0]
    stop = free.tokens[4]
    output = Engine(llm).generate([Request("the", 30, temperature=0, stop_token_ids=[stop])])[0]
    at = free.tokens.index(stop)
    assert llm.tokenizer is not None
    assert output.tokens == free.tokens[: at + 1] and output.text == llm.tokenizer.decode(free.tokens[:at])


def test_streamed_text_is_whole_characters(llm: LLM) -> None:
    """Random tokens of a byte-level vocabulary: pieces never hold half a character, their sum is the whole decode."""
    assert llm.tokenizer is not None
    for seed in range(20):
        request = Request("가", 60, temperature=3.0, seed=seed, ignore_eos=True)
        pieces, output = [], None
        for piece in llm.stream("가", 60, temperature=3.0, seed=seed, ignore_eos=True):
            pieces.append(piece.text)
            output = piece.output
        assert output is not None and request.seed == seed
        assert "".join(pieces) == output.text == llm.tokenizer.decode(output.tokens)
        for piece_text in pieces:
            piece_text.encode()  # no lone surrogate


def test_korean_streams_by_syllable(llm: LLM) -> None:
    """A text of several bytes per syllable, forced token by token, comes out in whole syllables."""
    assert llm.tokenizer is not None
    text = "안녕하세요 👩‍🚀 뷁"
    stream, shown = llm.tokenizer.detokenizer(), []
    for id in llm.tokenizer.encode(text):
        shown.append(stream.push(id))
        assert text.startswith("".join(shown)) and "\ufffd" not in shown[-1]
    assert "".join(shown) + stream.finish() == text
