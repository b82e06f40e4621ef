"""ChatML: each turn between `<|im_start|>role` and `<|im_end|>`, after one BOS."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.core.errors import UsageError
from hanok.text.chat import CHATS
from hanok.text.chat.message import Message, check_messages
from hanok.text.chat.spec import ChatSpec
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.specials import BOS, IM_END, IM_START
from hanok.text.trace import Span, Trace

ROLES = ("system", "user", "assistant")

JINJA = (
    "{{ '" + BOS + "' }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role: ' ~ message['role']) }}"
    "{% endif %}"
    "{{ '" + IM_START + "' ~ message['role'] ~ '\\n' ~ message['content'] ~ '" + IM_END + "\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + IM_START + "assistant\\n' }}{% endif %}"
)


@CHATS.register("chatml", paper="https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md")
class ChatML(ChatSpec):
    """ChatML: `<|bos|><|im_start|>user\\n...<|im_end|>\\n<|im_start|>assistant\\n...<|im_end|>\\n`."""

    def render(self, messages: Sequence[Message], *, generation: bool = False) -> str:
        """Return the conversation as text; only `encode` is safe against contents that spell special tokens."""
        turns = [
            f"{IM_START}{message['role']}\n{message['content']}{IM_END}\n"
            for message in check_messages(messages, roles=ROLES)
        ]
        return BOS + "".join(turns) + (f"{IM_START}assistant\n" if generation else "")

    def encode(self, tokenizer: Tokenizer, messages: Sequence[Message], *, generation: bool = False) -> Trace:
        """Return tokens and spans; a role's span is its content and the `<|im_end|>` behind it."""
        start, end = _special(tokenizer, IM_START), _special(tokenizer, IM_END)
        tokens, spans = [_special(tokenizer, BOS)], []
        for message in check_messages(messages, roles=ROLES):
            tokens += [start, *tokenizer.encode_constant(f"{message['role']}\n")]
            at = len(tokens)
            tokens += [*tokenizer.encode(message["content"]), end]
            spans.append(Span(at, len(tokens), message["role"]))
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


def _special(tokenizer: Tokenizer, name: str) -> int:
    if name not in tokenizer.specials:
        raise UsageError(
            f"the chat format chatml needs the special token {name}, which this tokenizer lacks: "
            "add it to the added_tokens of tokenizer.json"
        )
    return tokenizer.specials[name]
