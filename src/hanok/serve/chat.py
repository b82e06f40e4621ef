"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from hanok.engine.request import Event, Output
from hanok.engine.request import Request as EngineRequest
from hanok.serve.body import json_body, read_body
from hanok.serve.gateway import Gateway
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
from hanok.serve.served import Served
from hanok.serve.stream import EventStream, while_listening

router = APIRouter()
Events = AsyncIterator[tuple[int, Event]]


@router.post("/v1/chat/completions", openapi_extra=json_body(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """Continue a conversation."""
    gateway: Gateway = request.app.state.gateway
    served = gateway.served()
    body = await read_body(request, ChatRequest)
    served.check_name(body.model)
    with contextlib.ExitStack() as stack:
        flight = stack.enter_context(gateway.admit(body.choices))
        requests = await asyncio.to_thread(plan, served, body)
        flight.launch(requests)
        answer = ChatAnswer(served, body, len(requests[0].prompt))
        if body.stream:
            stack.pop_all()  # from here on the stream lets go of the flight
            return EventStream(answer.stream(flight.events()), flight.close)
        whole = await while_listening(request, answer.whole(flight.events()))
        return Response(whole, media_type="application/json")


def plan(served: Served, body: ChatRequest) -> list[EngineRequest]:
    """Return the engine's requests of a body; this renders and tokenises, so it runs in a thread."""
    prompt = served.render(body.messages)
    param = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    limit = served.room(prompt, body.limit, param=param)
    return [
        served.request(body, prompt, choice=choice, limit=limit, logprobs=body.top) for choice in range(body.choices)
    ]


class ChatAnswer:
    """Writes the engine's events as one answer or as chunks."""

    def __init__(self, served: Served, body: ChatRequest, prompt_tokens: int) -> None:
        self._served = served
        self._body = body
        self._prompt_tokens = prompt_tokens
        self._identity = uuid.uuid4().hex
        self._text = served.text
        self._generated = 0

    async def whole(self, events: Events) -> str:
        """Return the JSON of the finished answer."""
        outputs: dict[int, Output] = {}
        async for index, event in events:
            if event.output is not None:
                outputs[index] = event.output
        return await asyncio.to_thread(self._written, outputs)

    async def stream(self, events: Events) -> AsyncIterator[str]:
        """Yield the JSON of each chunk: role first, then text, then the reason; the choices interleave by index."""
        begun: set[int] = set()
        async for index, event in events:
            self._generated += len(event.tokens)
            if index not in begun:
                begun.add(index)
                yield self._chunk(index, Delta(role="assistant", content=""))
            logprobs = self._logprobs(event)
            if event.text or (logprobs is not None and logprobs.content):
                yield self._chunk(index, Delta(content=event.text), logprobs)
            if event.finish_reason is not None:
                yield self._chunk(index, Delta(), reason=event.finish_reason)
        if self._body.wants_usage:
            usage = Usage.of(self._prompt_tokens, self._generated)
            yield ChatChunk(**self._head(), choices=[], usage=usage).json_text()

    def _written(self, outputs: dict[int, Output]) -> str:
        choices = [
            ChatChoice(
                index=index,
                message=ChatMessage(role="assistant", content=output.text),
                logprobs=self._logprobs(output),
                finish_reason=output.finish_reason,
            )
            for index, output in sorted(outputs.items())
        ]
        return ChatCompletion(
            **self._served.head("chat.completion", "chatcmpl", self._identity),
            choices=choices,
            usage=Usage.of(self._prompt_tokens, sum(len(output.tokens) for output in outputs.values())),
        ).json_text()

    def _chunk(
        self, index: int, delta: Delta, logprobs: ChatLogprobs | None = None, *, reason: str | None = None
    ) -> str:
        choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=reason)
        if self._body.wants_usage:
            return ChatChunk(**self._head(), choices=[choice], usage=None).json_text()
        return ChatChunk(**self._head(), choices=[choice]).json_text()

    def _head(self) -> dict[str, object]:
        return self._served.head("chat.completion.chunk", "chatcmpl", self._identity)

    def _logprobs(self, part: Event | Output) -> ChatLogprobs | None:
        if self._body.top is None:
            return None
        count = self._served.shown(part.tokens, part.finish_reason)
        logprobs = (part.logprobs or [])[:count]
        return self._text.chat(part.tokens[:count], logprobs, part.top_logprobs, self._body.top)
