"""A model's reply taken apart as it comes: its thoughts, what it says, and the tools that it calls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

NAMES = ("name",)
ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True)
class ToolMarks:
    """How a format writes a tool call: `opened`, a JSON object {name: ..., arguments: ...}, `closed`.

    Marks are as the reply's text shows them, so one that is a special token is empty here; white space towards the
    JSON belongs to them. `listed` formats write one JSON list of all calls between the marks.
    """

    opened: str
    closed: str
    name: str = "name"
    arguments: str = "arguments"
    listed: bool = False


@dataclass(frozen=True)
class Part:
    """A piece of a reply: text that was thought or said, or one whole call (its arguments are JSON text)."""

    kind: Literal["reasoning", "content", "call"]
    text: str
    name: str = ""


class ReplyReader:
    """Takes a reply's text bit by bit and gives out its parts as soon as they are certain.

    A thought stands at the start between the marks of `thinking`; `inside` says that the prompt has opened it. Without
    `tools` nothing is read as a call. What looks like a call and is none comes out as the text that it is.
    """

    def __init__(
        self, thinking: tuple[str, str] | None = None, tools: ToolMarks | None = None, *, inside: bool = False
    ) -> None:
        self._thinking, self._tools = thinking, tools
        self._opened, self._closed = (tools.opened.strip(), tools.closed.strip()) if tools else ("", "")
        self._mode = "thought" if inside and thinking else "start"
        self._held = ""
        self._begun = False  # whether this thought has shown anything; its first newlines are layout
        self._after = False  # behind a thought or a call, newlines are layout too

    @property
    def thinking(self) -> bool:
        """Whether what comes next belongs to a thought, as far as is known."""
        return self._mode == "thought"

    def push(self, text: str) -> list[Part]:
        """Take the next text."""
        self._held += text
        parts: list[Part] = []
        while self._step(parts):
            pass
        return _joined(parts)

    def finish(self) -> list[Part]:
        """Give out what was withheld; the reply is over."""
        parts: list[Part] = []
        held, self._held = self._held, ""
        if self._mode == "thought":
            parts.append(Part("reasoning", held.rstrip("\n")))
        elif self._mode in ("call", "bare"):
            opened = self._opened if self._mode == "call" else ""
            parts += self._calls(held) or [Part("content", opened + held)]
        elif not (self._after and not held.strip("\n")):
            parts.append(Part("content", held))
        self._mode = "content"
        return _joined(parts)

    def _step(self, parts: list[Part]) -> bool:
        """Take one thing from what is held; return False when more text is needed."""
        return bool(getattr(self, f"_{self._mode}")(parts))

    def _start(self, parts: list[Part]) -> bool:
        seen = self._held.lstrip()
        if self._thinking and not self._after:
            opened = self._thinking[0]
            if seen.startswith(opened):
                self._held, self._mode, self._begun = seen[len(opened) :], "thought", False
                return True
            if opened.startswith(seen):
                return False
        if self._tools and not self._opened:
            if not seen:
                return False
            if seen[0] in "{[":
                self._mode = "bare"
                return False
        self._mode = "content"
        return True

    def _thought(self, parts: list[Part]) -> bool:
        assert self._thinking is not None
        if not self._begun:
            self._held = self._held.lstrip("\n")
            self._begun = bool(self._held)
        thought, closed, rest = self._held.partition(self._thinking[1])
        if closed:
            parts.append(Part("reasoning", thought.rstrip("\n")))
            self._held, self._mode, self._after = rest, "start", True
            return True
        self._give(parts, "reasoning", self._thinking[1])
        return False

    def _content(self, parts: list[Part]) -> bool:
        if self._after:
            self._held = self._held.lstrip("\n")
            self._after = not self._held
        if not self._opened:
            parts.append(Part("content", self._held))
            self._held = ""
            return False
        text, opened, rest = self._held.partition(self._opened)
        if opened:
            parts.append(Part("content", text.rstrip("\n")))
            self._held, self._mode = rest, "call"
            return True
        self._give(parts, "content", self._opened)
        return False

    def _call(self, parts: list[Part]) -> bool:
        closed = self._closed
        at = self._held.find(closed) if closed else -1
        while at >= 0:  # the mark may stand inside a string of the arguments
            calls = self._calls(self._held[:at])
            if calls:
                parts += calls
                self._held, self._mode, self._after = self._held[at + len(closed) :], "content", True
                return True
            at = self._held.find(closed, at + 1)
        return False

    def _bare(self, parts: list[Part]) -> bool:
        return False  # only its end shows whether a reply without marks is a call

    def _give(self, parts: list[Part], kind: Literal["reasoning", "content"], mark: str) -> None:
        """Give out what is held but for newlines and what may become the mark."""
        keep = next(
            (size for size in range(min(len(mark), len(self._held)), 0, -1) if self._held.endswith(mark[:size])), 0
        )
        end = len(self._held[: len(self._held) - keep].rstrip("\n"))
        parts.append(Part(kind, self._held[:end]))
        self._held = self._held[end:]

    def _calls(self, text: str) -> list[Part]:
        """Return the calls that a text spells, none if it spells anything else."""
        assert self._tools is not None
        values: list[Any] = []
        decoder, rest = json.JSONDecoder(), text.strip()
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
            except (ValueError, RecursionError):
                return []
            values += value if isinstance(value, list) else [value]
            rest = rest[end:].lstrip(" \n;,")
        calls = [_call_of(value, self._tools) for value in values]
        return [call for call in calls if call] if all(calls) else []


def _call_of(value: Any, marks: ToolMarks) -> Part | None:
    if not isinstance(value, dict):
        return None
    name = next((value[key] for key in (marks.name, *NAMES) if isinstance(value.get(key), str)), None)
    given: Any = next((value[key] for key in (marks.arguments, *ARGUMENTS) if key in value), {})
    if isinstance(given, str):  # arguments as JSON inside JSON
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    if not name or not isinstance(given, dict):
        return None
    return Part("call", json.dumps(given, ensure_ascii=False), name)


def _joined(parts: list[Part]) -> list[Part]:
    """Return the parts with neighbouring texts of a kind put together and empty ones left out."""
    joined: list[Part] = []
    for part in parts:
        if joined and part.kind != "call" and joined[-1].kind == part.kind:
            joined[-1] = Part(part.kind, joined[-1].text + part.text)
        elif part.text or part.kind == "call":
            joined.append(part)
    return joined
