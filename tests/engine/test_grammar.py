"""Structured output: what ends by "stop" is a text of its grammar, whatever the model; bad grammars are refused."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanok.core.errors import UsageError
from hanok.engine.choose import choose
from hanok.engine.engine import Engine
from hanok.engine.grammar import GRAMMARS, Grammar
from hanok.engine.grammar.compiler import KEPT, Compiler, compiler_for
from hanok.engine.grammar.matcher import GrammarTooComplex
from hanok.engine.local import LLM
from hanok.engine.prepare import prepare
from hanok.engine.processor import Place, process
from hanok.engine.request import Output, Request

HARD = ['"', "\\", "\n", "/", "한국어", "é", "\u2028", "😀", "\x00", "</s>", "<|im_end|>", "a b"]
TEXTS = st.text(st.sampled_from('ab"\\/\n한글é😀\x01'), max_size=4)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 10**6), TEXTS, st.sampled_from(HARD), st.lists(TEXTS, max_size=2)
)
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": ["null", "integer"], "minimum": -5, "maximum": 12345}),
    st.integers(0, 50).map(lambda low: {"type": "number", "minimum": low, "exclusiveMaximum": low + 3.5}),
    st.integers(1, 9).map(lambda by: {"type": "integer", "multipleOf": by, "minimum": 0, "maximum": 500}),
    st.integers(0, 4).map(lambda low: {"type": "string", "minLength": low, "maxLength": low + 3}),
    st.sampled_from(["^[가-힣]{1,3}$", "^(a|b|\\\\){2}$", '^["/]+$', "^\\d{2}-\\d{2}$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern, "maxLength": 8}
    ),
    st.lists(VALUES, min_size=1, max_size=4, unique_by=json.dumps).map(lambda values: {"enum": values}),
    VALUES.map(lambda value: {"const": value}),
)


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "이름", 'q"', "b\\", "$ref2", ""])
    return st.one_of(
        st.tuples(inner, st.integers(0, 2)).map(
            lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1], "maxItems": pair[1] + 1}
        ),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        ),
        st.tuples(st.dictionaries(names, inner, max_size=3), st.randoms(use_true_random=False)).map(
            lambda pair: {
                "type": "object",
                "properties": pair[0],
                "required": [name for name in pair[0] if pair[1].random() < 0.5],
                "additionalProperties": False,
            }
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    )


SCHEMAS = st.recursive(LEAVES, compound, max_leaves=6)


def written(llm: LLM, seed: int, *, steps: int = 200, drafts: bool = False, **options: Any) -> Output:
    """What a model of pure noise writes, through the same chain as the engine's."""
    rng = random.Random(seed)
    made = prepare(llm, Request([5], steps, seed=seed, **options), id=0, seed=seed, capacity=None)
    noise = torch.Generator().manual_seed(seed)
    while True:
        logits = torch.randn(1, llm.vocab_size, generator=noise) * 3
        if drafts:  # look behind guesses first, which must leave no trace
            process(logits, [Place(made, tuple(rng.choices(range(llm.vocab_size), k=rng.randint(1, 3))))])
        processed = process(logits, [Place(made)])
        event = made.push(int(choose(processed, [made.request], [rng.random()])), None, None)
        if event.output is not None:
            assert event.error is None, event.error
            return event.output


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS, seed=st.integers(0, 10**6))
def test_what_stops_is_valid(chatty: LLM, schema: dict[str, Any], seed: int) -> None:
    """Noise that is led by a schema writes JSON that an independent validator accepts."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        output = written(chatty, seed, grammar={"json_schema": schema})
    except UsageError as error:
        assert "cannot be used" in str(error)  # refused at once, never half obeyed
        return
    if output.finish_reason == "stop":
        jsonschema.validate(json.loads(output.text), schema, cls=jsonschema.Draft202012Validator)
    else:
        assert len(output.tokens) == 200


def test_most_texts_do_stop(chatty: LLM) -> None:
    """The property above is not empty; and without the grammar, noise writes no JSON (control arm)."""
    schema = {"type": "object", "properties": {"이름": {"enum": HARD}, "n": {"type": "integer", "maximum": 99}}}
    schema |= {"required": ["이름", "n"], "additionalProperties": False}
    for seed in range(12):
        output = written(chatty, seed, grammar={"json_schema": schema}, drafts=seed % 2 == 0)
        assert output.finish_reason == "stop"
        jsonschema.validate(json.loads(output.text), schema)
        with pytest.raises(ValueError):
            json.loads(written(chatty, seed, steps=30).text)


@pytest.mark.parametrize(
    ("grammar", "holds"),
    [
        ({"regex": r"[가-힣]{3} (\d{2}|x)"}, r"[가-힣]{3} (\d{2}|x)"),
        ({"regex": "a{2,5}b?"}, "a{2,5}b?"),
        ({"choice": ["예", "아니요", '"\\\n', "<|im_end|>"]}, r'예|아니요|"\\\n|<\|im_end\|>'),
        ({"choice": ["ab", "abc", "abcd"]}, "abc?d?"),
        ({"lark": 'start: "a" b+ "."\nb: /[xyz]/'}, r"a[xyz]+\."),
        ({"lark": 'root ::= "yes" | "no" [0-9]'}, "yes|no[0-9]"),
    ],
    ids=str,
)
def test_kinds(chatty: LLM, grammar: dict[str, Any], holds: str) -> None:
    seen = set()
    for seed in range(15):
        output = written(chatty, seed, grammar=grammar, drafts=seed % 3 == 0)
        assert output.finish_reason == "stop" and re.fullmatch(holds, output.text), output.text
        seen.add(output.text)
    assert len(seen) > 1


def test_through_the_engine(chatty: LLM) -> None:
    """Batched, preempted or alone, with a seed or greedy: the same valid texts, and others run beside them freely."""
    city = '("서울"|"부산"|7)'
    requests = [
        Request("hello", 100, temperature=float(at % 2), seed=at, grammar={"regex": rf"\[{city}(, {city}){{3,5}}\]"})
        for at in range(4)
    ]
    requests.append(Request("hello", 40, temperature=0.0))
    engine = Engine(chatty, num_pages=16, page_size=8)
    outputs = engine.generate(requests)
    assert engine.stats().preemptions > 0
    for request, output in zip(requests, outputs, strict=True):
        assert output.tokens == Engine(chatty).generate([request])[0].tokens
        if request.grammar is not None:
            assert output.finish_reason == "stop" and len(json.loads(output.text)) in (4, 5, 6)
    assert outputs[-1].finish_reason == "length"


def test_with_guesses(chatty: LLM) -> None:
    """Guessing ahead changes nothing about a text that follows a grammar, greedy or drawn; and guesses do stand."""
    grammar = {"regex": r"(abc ){6}(부산 ){6}[a-c]{1,9}"}
    for temperature in (0.0, 1.0):
        options: dict[str, Any] = {"temperature": temperature, "seed": 3, "grammar": grammar, "repetition_penalty": 1.1}
        plain = Engine(chatty).generate([Request("abc abc 부산 부산", 120, **options)])[0]
        guessing = Engine(chatty, speculation={"kind": "ngram"})
        assert guessing.generate([Request("abc abc 부산 부산", 120, **options)])[0].tokens == plain.tokens
        assert plain.finish_reason == "stop" and re.fullmatch(grammar["regex"], plain.text)
        assert guessing.stats().accepted_tokens > 0


def test_stop_tokens_only_at_the_end(chatty: LLM) -> None:
    """A token that stops is content where the grammar wants it and may not end the text."""
    assert chatty.tokenizer is not None
    (a,) = chatty.tokenizer.encode("a")
    output = written(chatty, 1, grammar={"regex": "aaab"}, stop_token_ids=[a])
    assert (output.text, output.finish_reason) == ("aaab", "stop")
    output = written(chatty, 1, grammar={"regex": "b+a"}, ignore_eos=True)
    assert re.fullmatch("b+a", output.text) and output.finish_reason == "stop"  # nothing more may come: no stop token
    ends = {written(chatty, seed, grammar={"regex": "b*"}).text for seed in range(12)}
    assert "" in ends and len(ends) > 2  # where it may end, it sometimes does


def test_min_tokens_max_tokens(chatty: LLM) -> None:
    texts = [written(chatty, seed, grammar={"regex": "b*"}, min_tokens=9) for seed in range(8)]
    assert all(len(output.tokens) >= 9 for output in texts)
    done = written(chatty, 0, grammar={"choice": ["bb"]}, min_tokens=9)
    assert (done.text, done.finish_reason) == ("bb", "stop")  # a text that is whole cannot be made longer
    cut = written(chatty, 0, steps=5, grammar={"regex": "b{50}"})
    assert cut.finish_reason == "length" and re.fullmatch("b{1,49}", cut.text)


def test_stop_strings_cut_only_whole_texts(chatty: LLM) -> None:
    """A stop string within JSON is a part of it; where the text before it is whole, it ends there."""
    schema = {"type": "array", "items": {"const": "stop"}, "minItems": 2, "maxItems": 2}
    output = written(chatty, 3, grammar={"json_schema": schema}, stop=["stop", "]"])
    assert json.loads(output.text) == ["stop", "stop"] and output.finish_reason == "stop"
    output = written(chatty, 3, grammar={"regex": "[bc]{20}"}, stop=["cb"])
    assert len(output.text) == 20
    output = written(chatty, 3, grammar={"regex": "[bc]*"}, stop=["cb"], ignore_eos=True)
    assert "cb" not in output.text and output.finish_reason == "stop"


@pytest.mark.parametrize(
    "grammar", [{"regex": "[a-c]+(x|한)"}, {"json_schema": {"type": "array", "items": {"type": "null"}}}]
)
def test_looking_ahead_equals_going_there(chatty: LLM, grammar: dict[str, Any]) -> None:
    """What may come behind guesses is what comes once they are taken; guesses that break the grammar say so."""
    assert chatty.tokenizer is not None
    compiler = compiler_for(chatty.tokenizer)
    for seed in range(6):
        tokens = written(chatty, seed, grammar=grammar).tokens[:-1]
        for cut in range(len(tokens)):
            ahead, there = compiler.matcher(Grammar.of(grammar)), compiler.matcher(Grammar.of(grammar))
            for token in tokens[:cut]:
                ahead.push(token)
            for token in tokens:
                there.push(token)
            got, want = ahead.allowed(tokens[cut:], [2], 300), there.allowed([], [2], 300)
            assert got is not None and want is not None and (got == want).all()
            bad = next(id for id in range(300) if not ahead.allowed([], [], 300)[id])  # type: ignore[index]
            assert ahead.allowed([bad, 5], [2], 300) is None
            for token in tokens[cut:]:  # the look ahead left no trace
                ahead.push(token)


BAD = {
    "look-around": {"regex": "(?=a)b"},
    "unclosed": {"regex": "["},
    "repeated": {"regex": "(a{1000}){1000}"},
    "nested": {"regex": "(" * 300 + "a" + ")" * 300},
    "long": {"regex": "a" * 20_000},
    "surrogate": {"regex": "\ud83d"},
    "remote": {"json_schema": {"$ref": "https://example.com/schema.json"}},
    "remote in rules": {"lark": 'start: %json {"items": {"$ref": "file:///etc/passwd"}}'},
    "not json": {"json_schema": "{"},
    "no schema": {"json_schema": [1]},
    "false": {"json_schema": False},
    "deep": {"json_schema": json.loads('{"items":' * 40 + "{}" + "}" * 40)},
    "deep text": {"json_schema": '{"items":' * 5000 + "{}" + "}" * 5000},
    "many": {"json_schema": {"enum": list(range(6000))}},
    "unknown key": {"json_schema": {"type": "array", "uniqueItems": True}},
    "lenient": {"json_schema": {"not": {"type": "string"}, "x-guidance": {"lenient": True}}},
    "unknown type": {"json_schema": {"type": "integr"}},
    "pattern": {"json_schema": {"type": "string", "pattern": "((a{100}){100}){100}"}},
    "patterns": {"json_schema": {"patternProperties": {"((a{100}){100}){100}": {}}}},
    "contradiction": {"json_schema": {"type": "integer", "minimum": 5, "maximum": 1}},
    "undefined": {"lark": "start: x"},
    "no rule": {"lark": "// hello"},
    "terminals": {"lark": 'start: A\nA: B{200}\nB: C{200}\nC: "x"{200}'},
    "regex in rules": {"lark": "start: /(a{1000}){1000}/"},
    "options": {"lark": 'start: "a"\n%llguidance {}'},
    "gbnf": {"lark": "root ::= ((("},
    "no choice": {"choice": []},
    "choices": {"choice": ["a"] * 2000},
    "object": {"json_object": 1},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_grammars_are_refused(chatty: LLM, name: str) -> None:
    """Refused before anything runs, in words of bounded length; and the next request is none the worse."""
    with pytest.raises(UsageError) as caught:
        written(chatty, 0, grammar=BAD[name])
    assert len(str(caught.value)) < 500
    assert written(chatty, 0, grammar={"choice": ["ok"]}).text == "ok"


def test_a_grammar_that_is_too_much_on_the_way(chatty: LLM) -> None:
    """It ends its own request with an error that names it; the others go on."""
    engine = Engine(chatty)
    deep = {"lark": 'start: a{10000}\na: b{10000}\nb: "x"{10000}'}
    heavy = engine.add(Request("hello", 20, temperature=0.0, grammar=deep))
    light = engine.add(Request("hello", 20, temperature=0.0))
    last = {}
    while engine.has_work:
        last |= {event.id: event for event in engine.step() if event.output is not None}
        engine.check()
    assert isinstance(last[heavy].error, GrammarTooComplex) and "grammar" in str(last[heavy].error)
    assert last[light].output == chatty.generate("hello", 20, logprobs=None)


def test_what_the_size_check_is_for() -> None:
    """Its limit lets ordinary grammars through, and repetitions that are written one after another only add up."""
    fine = [
        "[0-9]{4}-[0-9]{2}-[0-9]{2}" * 50,
        "a{10000}",
        "(ab{3}){100}",
        "(x|y{2,}){7}",
        r"\p{Hangul}{1,5}",
        r"\{99999\}",
    ]
    assert all(Grammar.of({"regex": pattern}) for pattern in fine)
    date = 'start: (DATE ","){100}\nDATE: YEAR "-" DAY\nYEAR: /[0-9]{4}/\nDAY: /[0-9]{2}/ // {9999}{9999}\n'
    assert Grammar.of({"lark": date})


def test_grammars_are_compiled_once(chatty: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal texts share their work; only so many are kept; threads may compile side by side."""
    assert chatty.tokenizer is not None
    compiler = Compiler(chatty.tokenizer)
    compiled: list[Grammar] = []
    inner = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda grammar: (compiled.append(grammar), inner(grammar))[1])
    for _ in range(3):
        compiler.matcher(Grammar.of({"json_schema": {"type": "null"}}))
        compiler.matcher(Grammar.of({"json_schema": '{"type":  "null"}'}))
    assert len(compiled) == 1
    threads = [
        threading.Thread(target=lambda at=at: compiler.matcher(Grammar.of({"choice": [f"w{at % 5}"]})))
        for at in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(KEPT + 5):
        compiler.matcher(Grammar.of({"choice": [f"k{at}"]}))
    assert len(compiler._kept) == KEPT


def test_a_tokenizer_is_needed(build: Callable[..., LLM], chatty: LLM) -> None:
    with pytest.raises(UsageError, match=r"tokenizer.*grammar"):
        build("gqa").generate([1], 4, grammar={"regex": "a"})
    assert set(GRAMMARS) == {"json_schema", "json_object", "regex", "choice", "lark"}


@pytest.mark.slow
def test_no_small_grammar_takes_long(chatty: LLM) -> None:
    """Expressions that are exponential elsewhere: none holds a step up, with the size check; one does without it."""

    def slowest(grammar: Grammar) -> float:
        assert chatty.tokenizer is not None
        begun = time.perf_counter()
        matcher = Compiler(chatty.tokenizer).matcher(grammar)
        for token in chatty.tokenizer.encode("a" * 40):
            matcher.push(token)
        return time.perf_counter() - begun

    patterns = [
        "(x+x+)+y|a*",
        "(.*a.{18})",
        ".*a.{30}.*b.{30}",
        "(a|aa)+b",
        "(a?){50}a{50}",
        "a{9999}",
        "(a{99}b?){99}",
    ]
    worst = max(slowest(Grammar.of({"regex": pattern})) for pattern in patterns)
    assert slowest(Grammar("regex", "(a{1000}){200}")) > 3 * worst
