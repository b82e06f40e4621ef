"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request, Response

from hanok.engine.request import Event, Output
from hanok.serve.body import json_body
from hanok.serve.conversation import Conversation, Heard, Reply, call_id
from hanok.serve.dialect import data
from hanok.serve.flow import Events, Plan, receive, respond, tenant
from hanok.serve.schema.chat import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatMessage,
    ChatRequest,
    ChunkChoice,
    Delta,
)
from hanok.serve.schema.common import Usage
from hanok.serve.schema.tool import FunctionCall, FunctionDelta, ToolCall, ToolCallDelta
from hanok.serve.served import Served

router = APIRouter()


@router.post("/v1/chat/completions", openapi_extra=json_body(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """Continue a conversation."""
    body, gateway = await receive(request, ChatRequest)
    make = partial(plan, body=body, whose=tenant(request))
    return await respond(request, gateway, body.choices, make, stream=bool(body.stream))


def plan(served: Served, body: ChatRequest, whose: str) -> Plan:
    """Return the engine's requests of a body and who writes the answer."""
    name = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    talk = Conversation(served, body, limit_name=name, tenant=whose)
    return Plan(talk.requests, ChatAnswer(talk))


class ChatAnswer:
    """Writes replies as one answer or as chunks."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self._served, self._body = talk.served, talk.body
        self._calls = [0] * talk.body.choices

    async def whole(self, events: Events) -> str:
        """Return the JSON of the finished answer."""
        replies = await self._talk.replies(events)
        return await asyncio.to_thread(self._written, replies)

    async def stream(self, events: Events) -> AsyncIterator[str]:
        """Yield each chunk: role first, then text, then the reason; the choices interleave by index."""
        begun: set[int] = set()
        async for heard in self._talk.heard(events):
            if heard.index not in begun:
                begun.add(heard.index)
                yield self._chunk(heard.index, Delta(role="assistant", content=""))
            for chunk in self._chunks(heard):
                yield chunk
            if heard.reason is not None:
                yield self._chunk(heard.index, Delta(), reason=heard.reason)
        if self._body.wants_usage:
            usage = self._usage()
            yield data(ChatChunk(**self._head(), choices=[], usage=usage).json_text())

    def _chunks(self, heard: Heard) -> list[str]:
        """Return an event's chunks; its log-probabilities go with the first."""
        logprobs = self._logprobs(heard.event)
        deltas = []
        for part in heard.parts:
            if part.kind == "content":
                deltas.append(Delta(content=part.text))
            elif part.kind == "reasoning":
                deltas.append(Delta(reasoning_content=part.text))
            else:
                function = FunctionDelta(name=part.name, arguments=part.text)
                call = ToolCallDelta(index=self._calls[heard.index], id=call_id(), type="function", function=function)
                self._calls[heard.index] += 1
                deltas.append(Delta(tool_calls=[call]))
        if not deltas and logprobs is not None and logprobs.content:
            deltas = [Delta(content="")]
        return [self._chunk(heard.index, delta, None if at else logprobs) for at, delta in enumerate(deltas)]

    def _written(self, replies: list[Reply]) -> str:
        choices = [
            ChatChoice(
                index=index,
                message=_message(reply),
                logprobs=self._logprobs(reply.output),
                finish_reason=reply.reason,
            )
            for index, reply in enumerate(replies)
        ]
        first = replies[0].output
        scored = {} if first.prompt_logprobs is None else {"prompt_logprobs": self._served.text.prompt(first)}
        return ChatCompletion(
            **self._served.head("chat.completion", "chatcmpl", self._talk.identity),
            choices=choices,
            usage=self._usage(),
            **scored,
        ).json_text()

    def _chunk(
        self, index: int, delta: Delta, logprobs: ChatLogprobs | None = None, *, reason: str | None = None
    ) -> str:
        choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=reason)
        usage = {"usage": None} if self._body.wants_usage else {}
        return data(ChatChunk(**self._head(), choices=[choice], **usage).json_text())

    def _usage(self) -> Usage:
        return Usage.of(len(self._talk.prompt), self._talk.generated, self._talk.cached)

    def _head(self) -> dict[str, object]:
        return self._served.head("chat.completion.chunk", "chatcmpl", self._talk.identity)

    def _logprobs(self, part: Event | Output) -> ChatLogprobs | None:
        if self._body.top is None:
            return None
        count = self._served.shown(part.tokens, part.finish_reason)
        logprobs = (part.logprobs or [])[:count]
        return self._served.text.chat(part.tokens[:count], logprobs, part.top_logprobs, self._body.top)


def _message(reply: Reply) -> ChatMessage:
    """Return the assistant's turn; without a word beside calls its content is null."""
    content = reply.text("content")
    told: dict[str, object] = {"role": "assistant", "content": content or (None if reply.calls else "")}
    if reply.text("reasoning"):
        told["reasoning_content"] = reply.text("reasoning")
    if reply.calls:
        told["tool_calls"] = [
            ToolCall(id=call_id(), type="function", function=FunctionCall(name=call.name, arguments=call.text))
            for call in reply.calls
        ]
    return ChatMessage(**told)
