"""`POST /v1/responses`: OpenAI's newer endpoint, without a memory of earlier responses."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pydantic
from fastapi import APIRouter, Request, Response

from hanok.engine.request import Event
from hanok.serve.body import json_body
from hanok.serve.conversation import Conversation, call_id, chat_request
from hanok.serve.dialect import event
from hanok.serve.flow import Events, Plan, receive, respond, tenant
from hanok.serve.schema.responses import ResponsesRequest
from hanok.serve.served import Served
from hanok.text.chat.reply import Part

router = APIRouter()

PREFIXES = {"content": "msg", "reasoning": "rs", "call": "fc"}


@router.post("/v1/responses", openapi_extra=json_body(ResponsesRequest))
async def responses(request: Request) -> Response:
    """Answer an input."""
    body, gateway = await receive(request, ResponsesRequest)
    make = partial(plan, body=body, whose=tenant(request))
    return await respond(request, gateway, 1, make, stream=bool(body.stream))


def plan(served: Served, body: ResponsesRequest, whose: str) -> Plan:
    """Return the engine's request of a body and who writes the response."""
    talk = Conversation(served, chat_request(body.chat()), limit_name="max_output_tokens", tenant=whose)
    return Plan(talk.requests, ResponsesAnswer(talk, body))


class ResponsesAnswer:
    """Writes a reply as one response or as the events that build it, item by item.

    Both are made the same way: the whole one is what the events have built.
    """

    def __init__(self, talk: Conversation, body: ResponsesRequest) -> None:
        self._talk, self._body = talk, body
        self._created = int(time.time())
        self._output: list[dict[str, Any]] = []
        self._open = ""  # the kind of the item that is being written
        self._logged: list[dict[str, Any]] = []  # log-probabilities of tokens whose text has not come out yet
        self._number = -1

    async def whole(self, events: Events) -> str:
        """Return the JSON of the finished response."""
        last = ""
        async for text in self.stream(events):
            last = text
        finished: dict[str, Any] = json.loads(last.partition("data: ")[2])
        return json.dumps(finished["response"], ensure_ascii=False)

    async def stream(self, events: Events) -> AsyncIterator[str]:
        """Yield `response.created`, `response.in_progress`, each item's events, and `response.completed`."""
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._response("in_progress"))
        async for heard in self._talk.heard(events):
            self._logged += self._logprobs(heard.event)
            for part in heard.parts:
                for text in self._written(part):
                    yield text
            if heard.reason is not None:
                whole = heard.reason != "length"
                for text in self._closed("completed" if whole else "incomplete"):
                    yield text
                state = "completed" if whole else "incomplete"
                yield self._event(f"response.{state}", response=self._response(state))

    def _written(self, part: Part) -> Iterator[str]:
        logprobs, self._logged = self._logged, []
        if part.kind == "call":
            yield from self._closed()
            yield from self._called(part)
            return
        if part.kind != self._open:
            yield from self._closed()
            yield from self._opened(part.kind)
        item = self._output[-1]
        item["content"][0]["text"] += part.text
        place = {**self._place(), "content_index": 0, "delta": part.text}
        if part.kind == "reasoning":
            yield self._event("response.reasoning_text.delta", **place)
        else:
            item["content"][0]["logprobs"] += logprobs
            yield self._event("response.output_text.delta", **place, logprobs=logprobs)

    def _opened(self, kind: str) -> Iterator[str]:
        self._open = kind
        identity = f"{PREFIXES[kind]}_{call_id()[5:]}"
        if kind == "content":
            item: dict[str, Any] = {"type": "message", "role": "assistant"}
            part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            item, part = {"type": "reasoning", "summary": []}, {"type": "reasoning_text", "text": ""}
        self._output.append({"id": identity, **item, "status": "in_progress", "content": []})
        yield self._event("response.output_item.added", output_index=len(self._output) - 1, item=self._output[-1])
        self._output[-1]["content"] = [part]
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=part)

    def _closed(self, status: str = "completed") -> Iterator[str]:
        if not self._open:
            return
        kind, self._open = self._open, ""
        item = self._output[-1]
        (part,) = item["content"]
        item["status"] = status
        if kind == "content":
            part["logprobs"] += self._logged
        place = {**self._place(), "content_index": 0}
        if kind == "reasoning":
            yield self._event("response.reasoning_text.done", **place, text=part["text"])
        else:
            yield self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **place, part=part)
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _called(self, part: Part) -> Iterator[str]:
        call = {"id": f"fc_{call_id()[5:]}", "type": "function_call", "call_id": call_id(), "name": part.name}
        self._output.append({**call, "arguments": "", "status": "in_progress"})
        yield self._event("response.output_item.added", output_index=len(self._output) - 1, item=self._output[-1])
        self._output[-1] |= {"arguments": part.text, "status": "completed"}
        yield self._event("response.function_call_arguments.delta", **self._place(), delta=part.text)
        yield self._event("response.function_call_arguments.done", **self._place(), name=part.name, arguments=part.text)
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=self._output[-1])

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1}

    def _logprobs(self, told: Event) -> list[dict[str, Any]]:
        served, top = self._talk.served, self._talk.body.top
        if top is None:
            return []
        count = served.shown(told.tokens, told.finish_reason)
        entries = served.text.chat(told.tokens[:count], (told.logprobs or [])[:count], told.top_logprobs, top)
        return [entry.model_dump() for entry in entries.content]

    def _response(self, status: str) -> dict[str, Any]:
        body, talk = self._body, self._talk
        return {
            "id": f"resp_{talk.identity}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": talk.served.name,
            "output": list(self._output),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"format": {"type": "text"} if body.text is None else body.text.model_dump().get("format")},
            "tool_choice": _said(body.tool_choice) or "auto",
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else self._usage(),
        }

    def _usage(self) -> dict[str, Any]:
        read, written = len(self._talk.prompt), self._talk.generated
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": self._talk.cached, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": self._talk.thought},
            "total_tokens": read + written,
        }

    def _event(self, name: str, /, **fields: Any) -> str:
        self._number += 1
        return event(name, json.dumps({"type": name, "sequence_number": self._number, **fields}, ensure_ascii=False))


def _said(choice: Any) -> Any:
    return choice.model_dump() if isinstance(choice, pydantic.BaseModel) else choice
