"""The model that is served, as the endpoints see it: what clients send becomes token ids and engine requests."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hanok import __version__
from hanok.core.errors import UsageError
from hanok.engine.choices import spread
from hanok.engine.grammar import Grammar
from hanok.engine.prepare import Served as Speaker
from hanok.engine.prepare import encode, matcher
from hanok.engine.request import Request
from hanok.model.model import Model
from hanok.serve.calling import call_grammar
from hanok.serve.errors import ApiError
from hanok.serve.length import check_length
from hanok.serve.schema.chat import Message
from hanok.serve.schema.common import ModelCard, SamplingFields
from hanok.serve.tokens import TokenText

SAMPLE = 64  # numbers of each weight that go into a model's version


@dataclass
class Served:
    """One model under the name that clients call it by."""

    llm: Speaker
    name: str
    numerics: str
    version: str = ""  # which of the models that had this name
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def fingerprint(self) -> str:
        """What has to be the same for a seed to give the same answer."""
        return "-".join(filter(None, ("hanok", __version__, self.numerics, self.version)))

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

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        generation: bool = True,
        resume: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the token ids of a conversation that the assistant is to continue; runs in a thread.

        With `resume` the last message is the beginning of the reply, and its text goes on where it ends.
        """
        chat, tokenizer = self.llm.chat, self.llm.tokenizer
        if chat is None or tokenizer is None:
            lacks = "tokenizer" if tokenizer is None else "chat format (no chat_template.jinja)"
            message = f"messages: this model has no {lacks}: use /v1/completions"
            raise ApiError(400, message, param="messages")
        if tools and chat.tool_marks(tokenizer) is None:
            raise ApiError(400, "tools: this model's chat format has no tools", param="tools", code="unsupported_value")
        try:
            chat = chat.told(options or {})
        except UsageError as error:
            raise ApiError(400, f"chat_template_kwargs: {error}", param="chat_template_kwargs") from None
        contents = [str(message.plain().get("content") or "") for message in messages]
        check_length(tokenizer, contents, self.context, param="messages")
        try:
            plain = [message.plain() for message in messages]
            trace = chat.encode(tokenizer, plain, generation=generation and not resume, tools=tools or None)
        except UsageError as error:
            raise ApiError(400, f"messages: {error}", param="messages") from None
        if not resume:
            return list(trace.tokens)
        last = trace.spans[-1] if trace.spans else None
        if last is None or last.role != "assistant":
            raise ApiError(400, "messages: this model's chat format cannot go on with a reply", param="messages")
        end = last.end - (trace.tokens[last.end - 1] in tokenizer.specials.values())
        return list(trace.tokens[:end])

    def calling(self, tools: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Mapping[str, Any]:
        """Return the grammar of replies that call one of the named tools and say nothing else."""
        assert self.llm.chat is not None and self.llm.tokenizer is not None, "rendering has refused this"
        marks = self.llm.chat.tool_marks(self.llm.tokenizer)
        assert marks is not None
        return call_grammar([tool["function"] for tool in tools if tool["function"]["name"] in names], marks)

    def encode(self, prompts: Sequence[str | list[int]]) -> list[list[int]]:
        """Return the token ids of prompts; runs in a thread."""
        vocab = self.llm.model.config.vocab
        for prompt in prompts:
            check_length(self.llm.tokenizer, [prompt] if isinstance(prompt, str) else [], self.context, param="prompt")
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
        self,
        body: SamplingFields,
        prompt: list[int],
        *,
        choice: int,
        limit: int | None,
        logprobs: int | None,
        grammar: Mapping[str, Any] | None = None,
        tenant: str = "",
    ) -> Request:
        """Return the engine's request for one choice; with a seed, each choice draws its own numbers from it."""
        seed = spread(body.seed, choice)
        vocab = self.llm.model.config.vocab
        return Request(
            prompt,
            limit,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(0, body.top_k or 0),
            min_p=body.min_p or 0.0,
            typical_p=1.0 if body.typical_p is None else body.typical_p,
            repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            logit_bias=body.biases,
            bad_words=body.bad_words or (),
            prompt_logprobs=body.prompt_logprobs if choice == 0 else None,
            seed=seed,
            stop=body.stops,
            stop_token_ids=body.stop_token_ids or (),
            ignore_eos=bool(body.ignore_eos),
            min_tokens=body.min_tokens or 0,
            logprobs=None if logprobs is None else min(logprobs, vocab),
            grammar=self._form(body, grammar),
            salt=tenant or None,  # what is cached of one key's prompts shows in nobody else's waiting time
        )

    def _form(self, body: SamplingFields, forced: Mapping[str, Any] | None) -> Grammar | None:
        """Return the grammar of an answer, compiled here so that a refusal names the field that asked for it."""
        asked, param = (body.grammar, body.form) if forced is None else (forced, "tools")
        if asked is None:
            return None
        try:
            grammar = Grammar.of(asked)
            matcher(self.llm, grammar)
        except UsageError as error:
            raise ApiError(400, f"{param}: {error}", param=param) from None
        return grammar

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


def version_of(model: Model) -> str:
    """Return eight characters that differ where the weights do, from a few numbers of each."""
    found = hashlib.sha256()
    for name, weight in model.state_dict().items():
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        flat = weight.detach().reshape(-1)
        found.update(repr(flat[:: max(1, len(flat) // SAMPLE)][: 2 * SAMPLE].tolist()).encode())
    return found.hexdigest()[:8]
