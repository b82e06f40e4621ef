"""A chat template that comes with a model and misbehaves costs the one who asked, and nobody beside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server
from hanok.text.chat.jinja import JinjaChat

from .probe import CHAT, Neighbour, error_of, send, settle

SOURCE = (
    "{% set n = namespace(s='xxxxxxxx') %}"
    "{% for m in messages %}"
    "{% if m.content == 'cpu' %}{% set s = 'x' * 1000000 %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}"
    "{% elif m.content == 'memory' %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
    "{% elif m.content == 'output' %}{% for i in range(50000) %}{{ 'x' * 1000 }}{% endfor %}"
    "{% elif m.content == 'address' %}{{ m.keys }}"
    "{% elif m.content == 'refusal' %}{{ raise_exception('not this') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{% if enable_thinking %}think{% endif %}"
)


@pytest.fixture(scope="module")
def foreign(llm: LLM) -> Iterator[Server]:
    """The model with a template of somebody else's."""
    assert llm.tokenizer is not None
    other = LLM(llm.model, llm.tokenizer, JinjaChat(SOURCE, llm.tokenizer))
    with Server(other, port=0, model_name="tiny", engine={"numerics": "exact"}) as running:
        yield running


@pytest.mark.parametrize(
    "kind",
    ["cpu", "address", "refusal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("memory", "output"))],
)
def test_a_bomb_in_a_template_is_a_400_beside_an_untouched_stream(foreign: Server, kind: str) -> None:
    quiet = Neighbour(foreign, {"max_tokens": 60}).wait()
    stream = Neighbour(foreign, {"max_tokens": 60})
    answer = send(foreign.url, CHAT, {"messages": [{"role": "user", "content": kind}], "max_tokens": 2})
    assert answer[0] == 400 and error_of(answer)["param"] == "messages", answer
    assert "chat template" in error_of(answer)["message"] and "0x" not in error_of(answer)["message"]
    assert stream.wait() == quiet and stream.done
    fine = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    assert send(foreign.url, CHAT, fine)[0] == 200
    settle(foreign)


def test_options_reach_the_template_and_others_are_refused(foreign: Server) -> None:
    ask = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    assert send(foreign.url, CHAT, {**ask, "chat_template_kwargs": {"enable_thinking": True}})[0] == 200
    for wrong in ({"enable_thinking": 1}, {"messages": []}, {"x": 1}, {"chat_template": "{{ 1 }}"}):
        answer = send(foreign.url, CHAT, {**ask, "chat_template_kwargs": wrong})
        assert answer[0] == 400 and error_of(answer)["param"] == "chat_template_kwargs", answer
    assert send(foreign.url, CHAT, {**ask, "chat_template": "{{ 1 }}"})[0] == 400
