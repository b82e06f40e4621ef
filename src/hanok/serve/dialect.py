"""How each API says that something went wrong, before an answer and in the middle of one, and how its streams end."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from hanok.serve.schema.common import ErrorDetail, ErrorReply

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ANTHROPIC_TYPES = {**TYPES, 413: "request_too_large", 503: "overloaded_error", 529: "overloaded_error"}


def data(text: str) -> str:
    """Return a server-sent event without a name."""
    return f"data: {text}\n\n"


def event(name: str, text: str) -> str:
    """Return a server-sent event with a name."""
    return f"event: {name}\ndata: {text}\n\n"


class Dialect(ABC):
    """One API's shapes for errors, and what a complete stream ends with."""

    ending: str = ""

    @abstractmethod
    def refusal(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the JSON of a refused request."""

    @abstractmethod
    def failure(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the event that ends a stream which cannot go on."""


class OpenAI(Dialect):
    """`{"error": {message, type, param, code}}`; a complete stream ends with `[DONE]`."""

    ending = data("[DONE]")

    def refusal(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the error object with exactly its four keys."""
        kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        return ErrorReply(error=ErrorDetail(message=message, type=kind, param=param, code=code)).model_dump_json()

    def failure(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the error as an event without a name."""
        return data(self.refusal(status, message, param, code))


class Responses(OpenAI):
    """The same refusals; in a stream an event named `error`, and no `[DONE]`."""

    ending = ""

    def failure(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the event `error`."""
        body = {"type": "error", "code": code, "message": message, "param": param, "sequence_number": 0}
        return event("error", json.dumps(body, ensure_ascii=False))


class Anthropic(Dialect):
    """`{"type": "error", "error": {type, message}}`, in a stream as an event named `error`."""

    def refusal(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the error object; the field to blame is in its message."""
        kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}, ensure_ascii=False)

    def failure(self, status: int, message: str, param: str | None, code: str | None) -> str:
        """Return the event `error`."""
        return event("error", self.refusal(status, message, param, code))


OPENAI, RESPONSES, ANTHROPIC = OpenAI(), Responses(), Anthropic()


def dialect_of(path: str) -> Dialect:
    """Return the dialect that the clients of a path speak."""
    if path.startswith("/v1/messages"):
        return ANTHROPIC
    return RESPONSES if path.startswith("/v1/responses") else OPENAI
