"""What people send is text: no special token is ever read out of it, in no field, in no chat format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hanok.engine.local import LLM
from hanok.engine.prepare import encode
from hanok.serve import Server
from hanok.text.chat import CHATS, ChatSpec
from hanok.text.chat.jinja import JinjaChat
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Trace

from .probe import CHAT, MESSAGES, TEXT, send

JINJA = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.name %}{{ m.name }}{% endif %}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% if m.content %}{{ m.content | trim }}{% endif %}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def specials(llm: LLM) -> list[str]:
    assert llm.tokenizer is not None
    return sorted(llm.tokenizer.specials)


def counted(tokenizer: Tokenizer, trace: Trace) -> int:
    """Return how many special tokens there are."""
    return sum(id in set(tokenizer.specials.values()) for id in trace.tokens)


def formats(tokenizer: Tokenizer) -> Iterator[tuple[str, ChatSpec]]:
    yield from ((name, CHATS[name]()) for name in CHATS)
    yield "jinja", JinjaChat(JINJA, tokenizer)


def conversations(text: str) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Yield conversations with a text in each field that a client can fill, and the tools that go with them."""
    call = {"type": "function", "id": "1", "function": {"name": f"f{text}", "arguments": {f"a{text}": [f"b{text}"]}}}
    string = {"type": "function", "id": "1", "function": {"name": "f", "arguments": json.dumps({"a": text})}}
    user = {"role": "user", "content": f"x{text}y"}
    yield [user], []
    yield [{"role": "system", "content": text}, user, {"role": "assistant", "content": text + text}, user], []
    yield [{"role": "user", "content": text[: len(text) // 2]}, {"role": "user", "content": text[len(text) // 2 :]}], []
    yield [user, {"role": "assistant", "content": "x", "reasoning_content": f"r{text}"}, user], []
    yield [user, {"role": "assistant", "content": "x", "tool_calls": [call]}, user], []
    yield [user, {"role": "assistant", "content": "x", "tool_calls": [string]}, user], []
    function = {"name": f"f{text}", "description": text, "parameters": {"properties": {f"p{text}": {"enum": [text]}}}}
    yield [user], [{"type": "function", "function": function}]


def test_no_field_of_a_conversation_makes_a_special_token(llm: LLM) -> None:
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    tried = 0
    for _, chat in formats(tokenizer):
        for special in specials(llm):
            for (harmful, tools), (harmless, safe) in zip(conversations(special), conversations("plain"), strict=True):
                trace = chat.encode(tokenizer, harmful, generation=True, tools=tools or None)
                clean = chat.encode(tokenizer, harmless, generation=True, tools=safe or None)
                assert counted(tokenizer, trace) == counted(tokenizer, clean), (chat, special, harmful, tools)
                tried += 1
    assert tried >= 7 * 2 * 5


def test_a_special_token_cannot_be_pieced_together(llm: LLM) -> None:
    assert llm.tokenizer is not None
    glued = JinjaChat("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}", llm.tokenizer)
    for special in specials(llm):
        for cut in range(1, len(special)):
            parts = [{"role": special[:cut], "content": special[cut:]}]
            assert counted(llm.tokenizer, glued.encode(llm.tokenizer, parts, generation=True)) == 0, (special, cut)


def test_control_text_that_is_read_as_rendered_is_full_of_them(llm: LLM) -> None:
    assert llm.tokenizer is not None and llm.chat is not None
    for special in specials(llm):
        text = llm.chat.render([{"role": "user", "content": special}])
        read = {id for id, _, _ in llm.tokenizer.encode_rendered(f"a{special}b")}
        assert llm.tokenizer.specials[special] in read and special in text


def test_the_server_reads_none_either(server: Server, llm: LLM) -> None:
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    ids = set(tokenizer.specials.values())
    for special in specials(llm):
        text = f"a {special}{special} b"
        assert sum(id in ids for id in encode(llm, text)) == sum(id in ids for id in encode(llm, "a"))
        for path, body in (
            (TEXT, {"prompt": text}),
            (TEXT, {"prompt": [text, "a"]}),
            (CHAT, {"messages": [{"role": "user", "content": text}]}),
            (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}),
            (CHAT, {"messages": [*MESSAGES, {"role": "assistant", "content": text}, *MESSAGES]}),
        ):
            answer = send(server.url, path, {"max_tokens": 1, **body})
            assert answer[0] == 200, answer
            used = json.loads(answer[2])["usage"]["prompt_tokens"]
            flat = json.dumps(body)
            plain = send(server.url, path, {"max_tokens": 1, **json.loads(flat.replace(special, "~"))})
            assert used > json.loads(plain[2])["usage"]["prompt_tokens"], "spelt out, so that it takes more tokens"


@pytest.mark.parametrize("special", ["<|im_end|>", "<|im_start|>system"])
def test_an_echoed_prompt_is_what_was_sent(server: Server, special: str) -> None:
    answer = send(server.url, TEXT, {"prompt": f"a{special}b", "echo": True, "max_tokens": 0})
    assert answer[0] == 200 and json.loads(answer[2])["choices"][0]["text"].endswith(f"a{special}b")
