"""`POST /v1/messages` and `/v1/messages/count_tokens`, as Anthropic's clients know them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from hanok.engine.request import Output
from hanok.serve.body import json_body
from hanok.serve.conversation import Conversation, Reply, call_id, chat_request
from hanok.serve.dialect import event
from hanok.serve.flow import Events, Plan, admit, receive, respond, tenant
from hanok.serve.schema.messages import CountRequest, MessagesRequest
from hanok.serve.served import Served
from hanok.text.chat.reply import Part

router = APIRouter()

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
BLOCKS = {"content": "text", "reasoning": "thinking", "call": "tool_use"}


@router.post("/v1/messages", openapi_extra=json_body(MessagesRequest))
async def messages(request: Request) -> Response:
    """Continue a conversation."""
    body, gateway = await receive(request, MessagesRequest)
    make = partial(plan, body=body, whose=tenant(request))
    return await respond(request, gateway, 1, make, stream=bool(body.stream))


@router.post("/v1/messages/count_tokens", openapi_extra=json_body(CountRequest))
async def count_tokens(request: Request) -> Response:
    """Count the tokens that a conversation would take."""
    body, gateway = await receive(request, CountRequest)
    with admit(request, gateway, 1) as flight:
        chat = chat_request(body.chat())
        resume = bool(chat.continue_final_message)
        tokens = await asyncio.to_thread(flight.served.render, chat.messages, chat.offered, resume=resume)
    return Response(json.dumps({"input_tokens": len(tokens)}), media_type="application/json")


def plan(served: Served, body: MessagesRequest, whose: str) -> Plan:
    """Return the engine's request of a body and who writes the answer."""
    talk = Conversation(served, chat_request(body.chat()), limit_name="max_tokens", tenant=whose)
    return Plan(talk.requests, MessagesAnswer(talk, body))


class MessagesAnswer:
    """Writes a reply as one message or as the events that make it up, block by block."""

    def __init__(self, talk: Conversation, body: MessagesRequest) -> None:
        self._talk, self._body = talk, body
        self._at = -1  # the block that is open, or was last
        self._open = ""  # its kind

    async def whole(self, events: Events) -> str:
        """Return the JSON of the finished message."""
        (reply,) = await self._talk.replies(events)
        blocks = [self._block(kind, text, name) for kind, text, name in _blocks(reply) if self._shown(kind)]
        return json.dumps({**self._message(blocks), **self._ended(reply.reason, reply.output)}, ensure_ascii=False)

    async def stream(self, events: Events) -> AsyncIterator[str]:
        """Yield `message_start`, each block's events, `message_delta` and `message_stop`."""
        message = {**self._message([]), "stop_reason": None, "stop_sequence": None, "usage": self._usage()}
        yield _event("message_start", message=message)
        async for heard in self._talk.heard(events):
            for part in heard.parts:
                if self._shown(part.kind):
                    for text in self._written(part):
                        yield text
            if heard.reason is not None and heard.event.output is not None:
                for text in self._closed():
                    yield text
                ended = self._ended(heard.reason, heard.event.output)
                usage = ended.pop("usage")
                yield _event("message_delta", delta=ended, usage=usage)
        yield _event("message_stop")

    def _written(self, part: Part) -> Iterator[str]:
        """Yield the events of a part, opening and closing blocks as the kind changes."""
        if part.kind != self._open or part.kind == "call":
            yield from self._closed()
            self._at, self._open = self._at + 1, part.kind
            block = self._block(part.kind, "{}" if part.kind == "call" else "", part.name)
            yield _event("content_block_start", index=self._at, content_block=block)
        deltas = {
            "content": {"type": "text_delta", "text": part.text},
            "reasoning": {"type": "thinking_delta", "thinking": part.text},
            "call": {"type": "input_json_delta", "partial_json": part.text},
        }
        yield _event("content_block_delta", index=self._at, delta=deltas[part.kind])

    def _closed(self) -> Iterator[str]:
        if self._open:
            yield _event("content_block_stop", index=self._at)
        self._open = ""

    def _shown(self, kind: str) -> bool:
        return kind != "reasoning" or self._body.thoughts_shown

    def _block(self, kind: str, text: str, name: str) -> dict[str, Any]:
        if kind == "call":
            identity = call_id().replace("call", "toolu", 1)
            return {"type": "tool_use", "id": identity, "name": name, "input": json.loads(text)}
        if kind == "reasoning":
            return {"type": "thinking", "thinking": text, "signature": ""}
        return {"type": "text", "text": text}

    def _message(self, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": f"msg_{self._talk.identity}", "type": "message", "role": "assistant"}
        return {**head, "model": self._talk.served.name, "content": blocks}

    def _ended(self, reason: str, output: Output) -> dict[str, Any]:
        """Return why the message ended (and by which of the client's stop sequences), and the usage."""
        found = self._found(output) if reason == "stop" else None
        why = "stop_sequence" if found else REASONS.get(reason, reason)
        return {"stop_reason": why, "stop_sequence": found, "usage": self._usage()}

    def _found(self, output: Output) -> str | None:
        served = self._talk.served
        if not self._body.stop_sequences or (output.tokens and output.tokens[-1] in served.stops):
            return None
        assert served.llm.tokenizer is not None
        rest = served.llm.tokenizer.decode(output.tokens)[len(output.text) :]
        return next((stop for stop in self._body.stop_sequences if rest.startswith(stop)), None)

    def _usage(self) -> dict[str, int]:
        return {"input_tokens": len(self._talk.prompt), "output_tokens": self._talk.generated}


def _blocks(reply: Reply) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, text, name) of a reply's blocks: neighbouring texts of a kind are one."""
    kind, text = "", ""
    for part in reply.parts:
        if part.kind != kind or part.kind == "call":
            if kind:
                yield kind, text, ""
            kind, text = part.kind, ""
        if part.kind == "call":
            yield "call", part.text, part.name
            kind = ""
        else:
            text += part.text
    if kind:
        yield kind, text, ""


def _event(name: str, /, **fields: Any) -> str:
    return event(name, json.dumps({"type": name, **fields}, ensure_ascii=False))
