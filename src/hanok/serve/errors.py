"""Every refusal in the shape that the client of its API reads (see `dialect`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import pydantic_core
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from hanok.core.errors import UsageError
from hanok.serve.dialect import dialect_of
from hanok.serve.schema.common import SamplingFields


class ClientGone(Exception):
    """Nobody is there to read the answer."""


class ApiError(Exception):
    """A request that is refused, with the status and the field to blame."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code = param, code
        self.headers = dict(headers or {})

    def response(self, path: str = "") -> Response:
        """Return the HTTP answer, in the shape that belongs to the path."""
        text = dialect_of(path).refusal(self.status, self.message, self.param, self.code)
        return Response(text, self.status, self.headers, media_type="application/json")

    @classmethod
    def usage(cls, error: UsageError) -> ApiError:
        """Return the refusal of a request that a lower floor found wrong; its message starts with the field."""
        field = str(error).split(maxsplit=1)[0].rstrip(":")
        return cls(400, str(error), param=field if field in SamplingFields.model_fields else None)

    @classmethod
    def validation(cls, error: pydantic.ValidationError) -> ApiError:
        """Return the refusal that names the first wrong field; the client's own values are not repeated."""
        first = _telling(error.errors(include_input=False, include_url=False, include_context=False))
        param = _field(first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "json_invalid":
            return cls(
                400, f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}", code="invalid_json"
            )
        if not param:  # a check over several fields starts its message with the field's name
            word = message.split()[0]
            param = word if word.isidentifier() and "_" in word else None
        return cls(400, f"{param}: {message}" if first["loc"] else message, param=param)


def _telling(errors: list[pydantic_core.ErrorDetails]) -> pydantic_core.ErrorDetails:
    """Return the first error; where a value is none of several types, the one that got furthest into it."""
    first = errors[0]
    within = [one for one in errors if one["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]]
    return max(within, key=lambda one: len(one["loc"])) if first["type"] == "string_type" else first


def _field(location: tuple[int | str, ...]) -> str | None:
    """Write a place as `messages[0].role`; the tags of a union's branches, which no client knows, are left out."""
    if not location:
        return None
    path = str(location[0])
    if path in ("messages", "tools"):
        for step in location[1:3]:
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path


def install(app: FastAPI) -> None:
    """Answer every error of the application in the shape of its API."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response(request.url.path)

    async def misuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, UsageError)
        return ApiError.usage(error).response(request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        messages: dict[int, str] = {
            404: f"there is no {request.url.path[:200]} here",
            405: f"{request.method} is not allowed on {request.url.path[:200]}",
        }
        message = messages.get(error.status_code, str(error.detail))
        return ApiError(error.status_code, message, headers=error.headers).response(request.url.path)

    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # written for the access log only

    async def bug(request: Request, error: Exception) -> Response:
        # The traceback goes to the server's log; the client learns nothing about the inside.
        return ApiError(500, "internal error; the server's log has the details").response(request.url.path)

    handlers: dict[Any, Any] = {
        ApiError: refused,
        UsageError: misuse,
        HTTPException: http,
        ClientGone: left,
        Exception: bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
