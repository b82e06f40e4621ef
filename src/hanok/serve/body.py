"""Reading a request's body: JSON only, 8 MB at most, parsed off the event loop when it is large."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import pydantic
from fastapi import Request

from hanok.serve.errors import ApiError
from hanok.serve.schema.common import Body as AnyBody

MAX_BODY = 8 * 2**20
PATIENCE = 4 * MAX_BODY  # how much of a refused body is read (and thrown away) so that the refusal can be heard
INLINE = 64 * 1024  # bodies up to this size are parsed where they arrive
COMPONENT = "#/components/schemas/{model}"
SECONDS = 15.0  # a body that takes longer between two pieces is given up
WHOLE = 60.0  # and so is one that takes longer altogether

Body = TypeVar("Body", bound=AnyBody)


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Return the checked body of a request, or refuse it with the field that is wrong."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        # Also what keeps foreign web pages out: they cannot send this type without asking first.
        raise ApiError(400, "send the body as JSON with the header Content-Type: application/json")
    raw = await _collect(request)
    try:
        body = parse(kind, raw) if len(raw) <= INLINE else await asyncio.to_thread(parse, kind, raw)
    except pydantic.ValidationError as error:
        raise ApiError.validation(error) from None
    return supported(body)


def supported(body: Body) -> Body:
    """Return a body, or refuse it for a field that asks for what this server cannot do."""
    refused = body.unsupported()
    if refused is not None:
        raise ApiError(400, f"{refused} is not supported by this server", param=refused, code="unsupported_parameter")
    return body


def json_body(kind: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI page says about a body that `read_body` reads."""
    schema = kind.model_json_schema(ref_template=COMPONENT)
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def body_parts(*kinds: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the schemas that the bodies refer to, by name, for the OpenAPI page's components."""
    return {
        name: part
        for kind in kinds
        for name, part in kind.model_json_schema(ref_template=COMPONENT).get("$defs", {}).items()
    }


def parse(kind: type[Body], raw: bytes) -> Body:
    """Return the body as its type; nesting deeper than the parser's limit of 200 is an error like any other."""
    return kind.model_validate_json(raw)


async def _collect(request: Request) -> bytes:
    pieces: list[bytes] = []
    size = 0
    stream = request.stream()
    loop = asyncio.get_running_loop()
    latest = loop.time() + WHOLE
    while True:
        try:
            async with asyncio.timeout_at(min(loop.time() + SECONDS, latest)):
                piece = await anext(stream)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise ApiError(408, "the body did not arrive in time") from None
        size += len(piece)
        if size <= MAX_BODY:
            pieces.append(piece)
        elif size > PATIENCE:
            break
    if size > MAX_BODY:
        raise ApiError(413, f"the body is larger than {MAX_BODY // 2**20} MB", code="body_too_large")
    return b"".join(pieces)
