"""The one way that every request takes: read, find the model, admit, plan in a thread, launch, answer or stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fastapi import Request, Response

from hanok.engine.request import Event
from hanok.engine.request import Request as EngineRequest
from hanok.serve.body import read_body
from hanok.serve.catalogue import Catalogue
from hanok.serve.gateway import Flight, Gateway
from hanok.serve.schema.common import Body
from hanok.serve.served import Served
from hanok.serve.stream import EventStream, while_listening

Events = AsyncIterator[tuple[int, Event]]
Kind = TypeVar("Kind", bound=Body)


class Answer(Protocol):
    """Writes what the engine tells in the shape of one API."""

    async def whole(self, events: Events) -> str:
        """Return the JSON of the finished answer."""
        ...

    def stream(self, events: Events) -> AsyncIterator[str]:
        """Yield server-sent events, ready to be sent."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a body asks of the engine (nothing, if all is known already) and who writes the answer."""

    requests: list[EngineRequest]
    answer: Answer


async def receive(request: Request, kind: type[Kind]) -> tuple[Kind, Gateway]:
    """Return the checked body and the gate of the model that it names; nothing is read while nobody could answer."""
    catalogue: Catalogue = request.app.state.catalogue
    catalogue.check()
    body = await read_body(request, kind)
    gateway = catalogue.find(body.model)
    request.scope.setdefault("state", {})["model"] = gateway.model_name
    return body, gateway


def admit(request: Request, gateway: Gateway, size: int) -> Flight:
    """Reserve places for `size` choices of a request; its log line will know their tokens."""
    return gateway.admit(size, request.scope.setdefault("state", {}))


async def respond(
    request: Request, gateway: Gateway, size: int, plan: Callable[[Served], Plan], *, stream: bool
) -> Response:
    """Run `size` choices through the engine and answer; `plan` renders and tokenises, so it runs in a thread.

    So does the hand-over to the engine, which compiles grammars.
    """
    with contextlib.ExitStack() as stack:
        flight = stack.enter_context(admit(request, gateway, size))
        made = await asyncio.to_thread(_launched, plan, flight, asyncio.get_running_loop())
        if stream:
            stack.pop_all()  # from here on the stream lets go of the flight
            return EventStream(made.answer.stream(flight.events()), flight.close)
        whole = await while_listening(request, made.answer.whole(flight.events()))
        return Response(whole, media_type="application/json")


def _launched(plan: Callable[[Served], Plan], flight: Flight, loop: asyncio.AbstractEventLoop) -> Plan:
    made = plan(flight.served)
    if made.requests:
        flight.launch(made.requests, loop)
    return made


def tenant(request: Request) -> str:
    """Return whom a request belongs to: a digest of its key, "" where there are no keys."""
    found: str = request.scope.get("state", {}).get("tenant", "")
    return found
