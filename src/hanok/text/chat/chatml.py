"""ChatML: each turn between `<|im_start|>role` and `<|im_end|>`, after one BOS; tools as Hermes and Qwen write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hanok.core.errors import UsageError
from hanok.text.chat import CHATS
from hanok.text.chat.message import Message, check_messages
from hanok.text.chat.reply import ToolMarks
from hanok.text.chat.spec import THINKING, ChatSpec, Tool
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.specials import BOS, IM_END, IM_START
from hanok.text.trace import Span, Trace

ROLES = ("system", "user", "assistant", "tool")
KEYS = ("name", "reasoning_content", "tool_calls", "tool_call_id")
MARKS = ToolMarks("<tool_call>\n", "\n</tool_call>")

BEFORE = "You can call these tools:\n<tools>\n"
BEHIND = (
    "\n</tools>\nTo call one, write its name and arguments as JSON:\n"
    '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
)


def _quoted(text: str) -> str:
    return "'" + text.replace("\n", "\\n") + "'"


JINJA = (
    "{{ '" + BOS + "' }}"
    "{% if tools %}"
    "{{ '" + IM_START + "system\\n' ~ " + _quoted(BEFORE) + " }}"
    "{% for tool in tools %}{{ ('' if loop.first else '\\n') ~ (tool | tojson) }}{% endfor %}"
    "{{ " + _quoted(BEHIND) + " ~ '" + IM_END + "\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('unknown role: ' ~ message['role']) }}"
    "{% endif %}"
    "{{ '" + IM_START + "' ~ message['role'] ~ '\\n' }}"
    "{% if message['reasoning_content'] %}"
    "{{ '" + THINKING[0] + "' ~ message['reasoning_content'] ~ '" + THINKING[1] + "' }}"
    "{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% endif %}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% set call = call['function'] or call %}"
    "{{ ('\\n' if message['content'] or not loop.first else '') ~ " + _quoted(MARKS.opened) + " ~ '{\"name\": ' }}"
    "{{ (call['name'] | tojson) ~ ', \"arguments\": ' }}"
    "{% set given = call['arguments'] or {} %}"
    "{{ (given if given is string else given | tojson) ~ '}' }}"
    "{{ " + _quoted(MARKS.closed) + " }}"
    "{% endfor %}"
    "{{ '" + IM_END + "\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + IM_START + "assistant\\n' }}{% endif %}"
)


@CHATS.register("chatml", paper="https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md")
class ChatML(ChatSpec):
    """ChatML: `<|bos|><|im_start|>user\\n...<|im_end|>\\n<|im_start|>assistant\\n...<|im_end|>\\n`."""

    def render(
        self, messages: Sequence[Message], *, generation: bool = False, tools: Sequence[Tool] | None = None
    ) -> str:
        """Return the conversation as text; only `encode` is safe against contents that spell special tokens."""
        turns = [f"{IM_START}{role}\n{text}{IM_END}\n" for role, text in _turns(messages, tools)]
        return BOS + "".join(turns) + (f"{IM_START}assistant\n" if generation else "")

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        generation: bool = False,
        tools: Sequence[Tool] | None = None,
    ) -> Trace:
        """Return tokens and spans; a role's span is its content and the `<|im_end|>` behind it."""
        start, end = _special(tokenizer, IM_START), _special(tokenizer, IM_END)
        tokens, spans = [_special(tokenizer, BOS)], []
        for role, text in _turns(messages, tools):
            tokens += [start, *tokenizer.encode_constant(f"{role}\n")]
            at = len(tokens)
            tokens += [*tokenizer.encode(text), end]
            spans.append(Span(at, len(tokens), role))
            tokens += tokenizer.encode_constant("\n")
        if generation:
            tokens += [start, *tokenizer.encode_constant("assistant\n")]
        return Trace(tokens, spans)

    def stops(self, tokenizer: Tokenizer) -> list[int]:
        """Return `<|im_end|>` and the end of a document."""
        stops = [_special(tokenizer, IM_END), tokenizer.eos_id]
        return [id for id in stops if id is not None]

    def template(self) -> str:
        """Return the Jinja template of this format."""
        return JINJA

    def tool_marks(self, tokenizer: Tokenizer) -> ToolMarks | None:
        """Return `<tool_call>` and `</tool_call>` around a JSON object."""
        return MARKS


def _turns(messages: Sequence[Message], tools: Sequence[Tool] | None) -> list[tuple[str, str]]:
    """Return (role, text) of each turn; tools make a system turn of their own before all others."""
    turns = [
        (message["role"], _text(message, f"messages[{at}]"))
        for at, message in enumerate(check_messages(messages, roles=ROLES, extra=KEYS))
    ]
    if not tools:
        return turns
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return [("system", f"{BEFORE}{listed}{BEHIND}"), *turns]


def _text(message: Mapping[str, Any], where: str) -> str:
    text, thought = message.get("content", ""), message.get("reasoning_content")
    calls = [_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(message.get("tool_calls") or ())]
    body = "\n".join(part for part in (text, *calls) if part)
    return f"{THINKING[0]}{thought}{THINKING[1]}{body}" if thought else body


def _call(call: Any, where: str) -> str:
    function = call.get("function") or call if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"{where} must be an object with a function that has a name and arguments")
    given = function.get("arguments") or {}
    if not isinstance(given, (str, Mapping)):
        raise UsageError(f"{where}.function.arguments must be an object or JSON text, not {type(given).__name__}")
    arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'{MARKS.opened}{{"name": {name}, "arguments": {arguments}}}{MARKS.closed}'


def _special(tokenizer: Tokenizer, name: str) -> int:
    if name not in tokenizer.specials:
        raise UsageError(
            f"the chat format chatml needs the special token {name}, which this tokenizer lacks: "
            "add it to the added_tokens of tokenizer.json"
        )
    return tokenizer.specials[name]
