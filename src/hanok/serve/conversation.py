"""A conversation that is continued: the prompt, the engine's requests, and the replies taken apart as they come."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pydantic

from hanok.engine.request import Event, Output
from hanok.engine.request import Request as EngineRequest
from hanok.serve.body import supported
from hanok.serve.errors import ApiError
from hanok.serve.flow import Events
from hanok.serve.schema.chat import ChatRequest
from hanok.serve.served import Served
from hanok.text.chat.reply import Part, ReplyReader


@dataclass(frozen=True)
class Heard:
    """What one event of one choice says; the last has a reason (`stop`, `length`, `tool_calls`)."""

    index: int
    parts: list[Part]
    event: Event
    reason: str | None


@dataclass
class Reply:
    """One finished choice."""

    output: Output
    reason: str
    parts: list[Part] = field(default_factory=list)

    def text(self, kind: str) -> str:
        """Return all text of a kind."""
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> list[Part]:
        """The tools that were called."""
        return [part for part in self.parts if part.kind == "call"]


class Conversation:
    """One request for replies, as every chat API plans it and listens to it.

    Making one renders and tokenises, so it is made in a thread. `limit_name` is what the API calls its longest answer.
    """

    def __init__(self, served: Served, body: ChatRequest, *, limit_name: str, tenant: str = "") -> None:
        self.served, self.body = served, body
        self.identity = uuid.uuid4().hex
        resume, options = bool(body.continue_final_message), body.chat_template_kwargs or {}
        self.prompt = served.render(body.messages, body.offered, resume=resume, options=options)
        limit = served.room(self.prompt, body.limit, param=limit_name)
        grammar = served.calling(body.offered, body.forced) if body.forced else None
        self.requests: list[EngineRequest] = [
            served.request(
                body, self.prompt, choice=choice, limit=limit, logprobs=body.top, grammar=grammar, tenant=tenant
            )
            for choice in range(body.choices)
        ]
        self.generated = self.thought = 0  # tokens, and how many of them were thoughts
        self.cached = 0  # tokens of the prompt that the first choice did not have to compute
        self._readers = [self._reader() for _ in range(body.choices)]
        self._called = [0] * body.choices

    async def heard(self, events: Events) -> AsyncIterator[Heard]:
        """Yield what each event says, as soon as it is certain."""
        async for index, event in events:
            reader = self._readers[index]
            self.generated += len(event.tokens)
            self.thought += len(event.tokens) * reader.thinking
            if index == 0 and event.output is not None:
                self.cached = event.output.cached_tokens
            parts = reader.push(event.text)
            if event.finish_reason is not None:
                parts += reader.finish()
            parts = [part for part in parts if self._allowed(index, part)]
            reason = "tool_calls" if event.finish_reason == "stop" and self._called[index] else event.finish_reason
            yield Heard(index, parts, event, reason)

    async def replies(self, events: Events) -> list[Reply]:
        """Return the finished choices in order."""
        parts: dict[int, list[Part]] = {}
        done: dict[int, Reply] = {}
        async for heard in self.heard(events):
            parts.setdefault(heard.index, []).extend(heard.parts)
            if heard.event.output is not None:
                done[heard.index] = Reply(heard.event.output, str(heard.reason), parts[heard.index])
        return [done[index] for index in sorted(done)]

    def _reader(self) -> ReplyReader:
        llm, body = self.served.llm, self.body
        assert llm.chat is not None and llm.tokenizer is not None, "rendering has refused this"
        return llm.chat.reader(llm.tokenizer, prompt=self.prompt, tools=bool(body.offered))

    def _allowed(self, index: int, part: Part) -> bool:
        """Let everything through but a second call where calls must come alone."""
        if part.kind == "call":
            self._called[index] += 1
            return self._called[index] == 1 or self.body.parallel_tool_calls is not False
        return True


def chat_request(said: dict[str, Any]) -> ChatRequest:
    """Return another API's request as one of the chat endpoint, on whose path everything goes on."""
    try:
        return supported(ChatRequest.model_validate(said))
    except pydantic.ValidationError as error:
        raise ApiError.validation(error) from None


def call_id() -> str:
    """Return a new name for a call, by which its result is sent back."""
    return f"call_{uuid.uuid4().hex[:24]}"
