"""Any Hugging Face chat template as a chat format, with spans and safe contents although it renders text only."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from hanok.core.errors import UsageError
from hanok.text.chat.message import Message, check_messages
from hanok.text.chat.options import check_options
from hanok.text.chat.reply import ToolMarks
from hanok.text.chat.spec import ChatSpec, Tool
from hanok.text.chat.toolmarks import find_marks
from hanok.text.template.keeper import keeper
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Span, Trace

PROBE = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
NONCHARACTERS = [chr(point) for point in range(0xFDD0, 0xFDF0)]  # never assigned, so nobody writes them on purpose

Located = tuple[int, int, int]  # token id, start and end in the text


class JinjaChat(ChatSpec):
    """A chat format given by a template.

    Contents are rendered with invisible marks around them, which say afterwards where each one went; a special token
    that a content spells out is shielded by another mark, so that it stays plain text.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, *, stop_ids: Sequence[int] = ()) -> None:
        self._source = source
        keeper().render(source, [])  # says now what is wrong with it
        names = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos, "pad_token": tokenizer.pad}
        named = {key: value for key, value in tokenizer.config.items() if key.endswith("_token")}
        plain = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in named.items()}
        self._names = {key: value for key, value in {**plain, **names}.items() if isinstance(value, str)}
        self._stop_ids = tuple(stop_ids)
        self._turn_ends: list[int] | None = None  # the special that ends a turn, found when first needed
        self._marks: list[ToolMarks | None] = []  # one entry once it is known
        self._options: dict[str, Any] = {}

    def render(
        self, messages: Sequence[Message], *, generation: bool = False, tools: Sequence[Tool] | None = None
    ) -> str:
        """Return the conversation as the template writes it."""
        return self._texts([check_messages(messages, extra=True)], generation, tools, self._options)[0]

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        generation: bool = False,
        tools: Sequence[Tool] | None = None,
    ) -> Trace:
        """Return tokens (equal to transformers' for contents without special tokens) and spans by role."""
        plain = check_messages(messages, extra=True)
        specials, begun = _pattern(tokenizer), _beginnings(tokenizer)
        shield, opened, closed = _free_marks(f"{self._source}{plain}{tools}{self._options}")
        shielded, known, options = _map_strings(
            [plain, list(tools or ()), self._options], lambda text: _shield(text, specials, shield, begun)
        )
        marked = [_marked(message, opened, closed) for message in shielded]
        text, with_marks = self._texts([shielded, marked], generation, known, options)
        clean = text.replace(shield, "")
        located = (
            tokenizer.encode_rendered(clean)
            if shield not in text
            else list(_piecewise(text, specials, tokenizer, shield))
        )
        ranges = _locate(shielded, text, with_marks, (shield, opened, closed))
        if ranges is None and not generation:
            raise UsageError(
                "this chat template changes its contents, so that nobody can say which tokens the assistant wrote; "
                "it can prompt a model, but not train one"
            )
        stops = set(tokenizer.specials.values())
        spans = [span for role, start, end in ranges or () for span in _span(located, start, end, role, stops)]
        return Trace([id for id, _, _ in located], spans)

    def stops(self, tokenizer: Tokenizer) -> list[int]:
        """Return the end of a document, the model's own stop tokens, and whatever ends a turn in the template."""
        if self._turn_ends is None:
            self._turn_ends = self._find_turn_ends(tokenizer)
        stops = [tokenizer.eos_id, *self._stop_ids, *self._turn_ends]
        return list(dict.fromkeys(id for id in stops if id is not None))

    def template(self) -> str:
        """Return the template's source."""
        return self._source

    def told(self, options: Mapping[str, Any]) -> Self:
        """Return this format with options for its template; they are shielded like contents."""
        if not options:
            return self
        other = copy.copy(self)
        other._options = check_options(options, self._source)
        return other

    def tool_marks(self, tokenizer: Tokenizer) -> ToolMarks | None:
        """Return what the template writes around a tool call, found by having it write one."""
        if not self._marks:
            self._marks = [find_marks(self.render, [*tokenizer.specials])]
        return self._marks[0]

    def _texts(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        generation: bool,
        tools: Sequence[Tool] | None,
        options: Mapping[str, Any],
    ) -> list[str]:
        """Return each conversation as the template writes it, all in one visit to the process that renders."""
        fixed = {**self._names, "tools": tools or None, "documents": None, "add_generation_prompt": generation}
        fixed = {**options, **fixed}
        return keeper().render(self._source, [{**fixed, "messages": messages} for messages in conversations])

    def _find_turn_ends(self, tokenizer: Tokenizer) -> list[int]:
        try:
            trace = self.encode(tokenizer, PROBE)
        except UsageError:  # a template with other roles, or one that rewrites its contents
            return []
        last = trace.tokens[trace.spans[-1].end - 1]
        return [last] if last in tokenizer.specials.values() else []


def _pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    names = sorted(tokenizer.specials, key=len, reverse=True)
    return re.compile("|".join(re.escape(name) for name in names) or r"(?!)")


def _free_marks(text: str) -> tuple[str, str, str]:
    free = [char for char in NONCHARACTERS if char not in text and repr(char)[1:-1] not in text][:3]
    if len(free) < 3:
        raise UsageError("the messages use up all Unicode noncharacters U+FDD0 to U+FDEF, which no text may contain")
    return free[0], free[1], free[2]


def _map_strings(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map_strings(item, change) for item in value]
    return value


def _shield(text: str, specials: re.Pattern[str], shield: str, beginnings: tuple[str, ...]) -> str:
    while specials.search(text):
        text = specials.sub(lambda match: match[0][0] + shield + match[0][1:], text)
    # What begins a special token at the end of one content could be completed by the next one.
    return text + shield if text.endswith(beginnings) else text


def _beginnings(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return every proper beginning of a special token."""
    return tuple({name[:end] for name in tokenizer.specials for end in range(1, len(name))})


def _locate(
    messages: list[dict[str, Any]], text: str, rendered: str, marks: tuple[str, str, str]
) -> list[tuple[str, int, int]] | None:
    """Return (role, start, end) of each content in the text without marks, or None if a content was changed."""
    shield, opened, closed = marks
    if rendered.replace(opened, "").replace(closed, "") != text:
        return None
    roles = iter([message["role"] for message in messages if message.get("content")])
    ranges, at, start = [], 0, -1
    for char in rendered:
        if char == opened:
            start = at
        elif char == closed:
            role = next(roles, None)
            if start < 0 or role is None:
                return None
            ranges.append((role, start, at))
            start = -1
        elif char != shield:
            at += 1
    return ranges if next(roles, None) is None else None


def _marked(message: dict[str, Any], opened: str, closed: str) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": _mark(content, opened, closed)} if content else message


def _mark(text: str, opened: str, closed: str) -> str:
    """Mark a content inside its white space, which templates trim."""
    body = text.strip()
    if not body:
        return text
    start = text.index(body)
    return text[:start] + opened + body + closed + text[start + len(body) :]


def _piecewise(text: str, specials: re.Pattern[str], tokenizer: Tokenizer, shield: str) -> Iterator[Located]:
    """Encode text between the template's specials as plain text, with offsets that do not count the shields."""
    at = 0
    for piece in re.split(f"({specials.pattern})", text):
        clean = piece.replace(shield, "")
        if piece and specials.fullmatch(piece):
            yield tokenizer.specials[piece], at, at + len(clean)
        else:
            for id, start, end in tokenizer.encode_located(clean):
                yield id, at + start, at + end
        at += len(clean)


def _span(located: list[Located], start: int, end: int, role: str, stops: set[int]) -> Iterator[Span]:
    """Return the tokens that reach into a range, and the special token that ends the turn right behind it."""
    inside = [i for i, (_, first, last) in enumerate(located) if first < end and start < last]
    if not inside:
        return
    stop = inside[-1] + 1
    if stop < len(located) and located[stop][0] in stops:
        stop += 1
    yield Span(inside[0], stop, role)
