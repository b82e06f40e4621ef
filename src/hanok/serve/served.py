"""The model that is served, as the endpoints see it: what clients send becomes token ids and engine requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hanok import __version__
from hanok.core.errors import UsageError
from hanok.engine.prepare import Served as Speaker
from hanok.engine.prepare import encode
from hanok.engine.request import Request
from hanok.serve.errors import ApiError
from hanok.serve.schema.chat import Message
from hanok.serve.schema.common import ModelCard, SamplingFields
from hanok.serve.tokens import TokenText

GOLDEN = 0x9E3779B97F4A7C15  # spreads the seeds of the choices of one request


@dataclass
class Served:
    """One model under the name that clients call it by."""

    llm: Speaker
    name: str
    numerics: str
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def fingerprint(self) -> str:
        """What has to be the same for a seed to give the same answer."""
        return f"hanok-{__version__}-{self.numerics}"

    @property
    def context(self) -> int:
        """The most tokens that a prompt and its answer can have together."""
        return self.llm.model.config.context

    @cached_property
    def text(self) -> TokenText:
        """The writer of single tokens."""
        return TokenText(self.llm.tokenizer)

    def card(self) -> ModelCard:
        """Return the entry of `/v1/models`."""
        return ModelCard(
            id=self.name, object="model", created=self.created, owned_by="hanok", max_model_len=self.context
        )

    def check_name(self, name: str | None) -> None:
        """Refuse a request for another model."""
        if name not in (None, "", self.name):
            message = f"the model {str(name)[:100]!r} does not exist; this server has {self.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def render(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a conversation that the assistant is to continue; runs in a thread."""
        try:
            return encode(self.llm, [message.plain() for message in messages])
        except UsageError as error:
            raise ApiError(400, f"messages: {error}", param="messages") from None

    def encode(self, prompts: Sequence[str | list[int]]) -> list[list[int]]:
        """Return the token ids of prompts; runs in a thread."""
        vocab = self.llm.model.config.vocab
        try:
            # An empty text is what a document starts with, where the model has such a token.
            rows = [encode(self.llm, prompt) if prompt else self._nothing() for prompt in prompts]
        except UsageError as error:
            raise ApiError(400, f"prompt: {error}", param="prompt") from None
        wrong = next((token for row in rows for token in row if token >= vocab), None)
        if wrong is not None:
            raise ApiError(400, f"prompt: token id {wrong} is not below the vocabulary's {vocab}", param="prompt")
        return rows

    def room(self, prompt: Sequence[int], limit: int | None, *, param: str) -> int | None:
        """Return how many tokens to generate (None: as many as fit), or refuse what the context cannot hold."""
        if limit == 0:
            raise ApiError(400, f"{param} must be at least 1", param=param)
        if len(prompt) + (limit or 1) > self.context:
            raise ApiError(
                400,
                f"the context holds {self.context} tokens; the prompt has {len(prompt)} "
                f"and {limit or 'at least 1'} more were asked for",
                param=param,
                code="context_length_exceeded",
            )
        return limit

    def request(
        self, body: SamplingFields, prompt: list[int], *, choice: int, limit: int | None, logprobs: int | None
    ) -> Request:
        """Return the engine's request for one choice; with a seed, each choice draws its own numbers from it."""
        seed = body.seed if body.seed is None or choice == 0 else (body.seed + choice * GOLDEN) % 2**63
        vocab = self.llm.model.config.vocab
        return Request(
            prompt,
            limit,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(0, body.top_k or 0),
            min_p=body.min_p or 0.0,
            seed=seed,
            stop=body.stops,
            stop_token_ids=body.stop_token_ids or (),
            ignore_eos=bool(body.ignore_eos),
            min_tokens=body.min_tokens or 0,
            logprobs=None if logprobs is None else min(logprobs, vocab),
        )

    def shown(self, tokens: list[int], finish_reason: str | None) -> int:
        """Return how many of an event's tokens are content: a stop token at the end is not."""
        ends = finish_reason == "stop" and bool(tokens) and tokens[-1] in self.stops
        return len(tokens) - ends

    @cached_property
    def stops(self) -> frozenset[int]:
        """The tokens that end a text or a turn."""
        return self.llm.stop_ids

    def head(self, kind: str, prefix: str, identity: str) -> dict[str, Any]:
        """Return the fields that every answer starts with."""
        return {
            "id": f"{prefix}-{identity}",
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
            "system_fingerprint": self.fingerprint,
        }

    def _nothing(self) -> list[int]:
        bos = self.llm.tokenizer.bos_id if self.llm.tokenizer is not None else None
        if bos is None:
            raise UsageError("is empty, and this model has no token to begin a text with")
        return [bos]
