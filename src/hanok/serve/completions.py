"""`POST /v1/completions`: plain continuation, and (`echo` with `logprobs`) the likelihood of a given text."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request, Response

from hanok.engine.choices import best
from hanok.engine.request import Event, Output
from hanok.serve.body import json_body
from hanok.serve.dialect import data
from hanok.serve.errors import ApiError
from hanok.serve.flow import Events, Plan, receive, respond, tenant
from hanok.serve.schema.common import Usage
from hanok.serve.schema.completion import Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from hanok.serve.score import Scored, score_prompt
from hanok.serve.served import Served
from hanok.serve.tokens import CompletionTokens

router = APIRouter()

DEFAULT_TOKENS = 16  # what this endpoint has always generated when nothing is said


@router.post("/v1/completions", openapi_extra=json_body(CompletionRequest))
async def completions(request: Request) -> Response:
    """Continue a text."""
    body, gateway = await receive(request, CompletionRequest)
    make = partial(plan, body=body, scoring=gateway.scoring, whose=tenant(request))
    return await respond(request, gateway, len(body.prompts) * body.drawn, make, stream=bool(body.stream))


def plan(served: Served, body: CompletionRequest, scoring: asyncio.Lock, whose: str) -> Plan:
    """Return the engine's requests, none if nothing is to be generated, and who writes the answer."""
    prompts = served.encode(body.prompts)
    limits = [limit_of(served, body, prompt) for prompt in prompts]
    requests = [
        served.request(body, prompt, choice=choice, limit=limit, logprobs=compared(body), tenant=whose)
        for prompt, limit in zip(prompts, limits, strict=True)
        for choice in range(body.drawn)
        if limit != 0
    ]
    return Plan(requests, CompletionAnswer(served, body, prompts, scoring))


def compared(body: CompletionRequest) -> int | None:
    """Return how many log-probs to ask for; answers of which the best are told are compared by theirs."""
    return 0 if body.logprobs is None and body.drawn > body.choices else body.logprobs


def limit_of(served: Served, body: CompletionRequest, prompt: list[int]) -> int | None:
    """Return how many tokens to generate behind a prompt; none at all is allowed where the prompt is echoed."""
    if body.max_tokens == 0 and body.echo:
        if len(prompt) > served.context:
            message = f"the context holds {served.context} tokens; the prompt has {len(prompt)}"
            raise ApiError(400, message, param="prompt", code="context_length_exceeded")
        return 0
    if body.max_tokens is None:
        return served.room(prompt, min(DEFAULT_TOKENS, max(1, served.context - len(prompt))), param="prompt")
    return served.room(prompt, body.max_tokens, param="max_tokens")


class CompletionAnswer:
    """Writes the engine's events, behind the echoed prompt where that was asked for."""

    def __init__(
        self, served: Served, body: CompletionRequest, prompts: list[list[int]], scoring: asyncio.Lock
    ) -> None:
        self._served = served
        self._body = body
        self._prompts = prompts
        self._scoring = scoring
        self._head = served.head("text_completion", "cmpl", uuid.uuid4().hex)
        self._writers = [CompletionTokens(served.text, body.logprobs or 0) for _ in range(len(prompts) * body.drawn)]
        self._outputs: dict[int, Output] = {}
        self._generated = 0

    async def whole(self, events: Events) -> str:
        """Return the JSON of the finished answer."""
        parts = [[piece] for piece in await self._beginnings()]
        async for index, event in events:
            parts[index].append(self._piece(index, event))
            if event.output is not None:
                self._outputs[index] = event.output
        return await asyncio.to_thread(self._written, parts)

    async def stream(self, events: Events) -> AsyncIterator[str]:
        """Yield each piece; the choices interleave by index."""
        if self._body.echo:
            for piece in await self._beginnings():
                yield self._chunk(piece)
        async for index, event in events:
            piece = self._piece(index, event)
            if piece.text or piece.finish_reason or (piece.logprobs is not None and piece.logprobs.tokens):
                yield self._chunk(piece)
        if self._body.wants_usage:
            yield data(Completion(**self._head, choices=[], usage=self._usage()).json_text())

    def _written(self, parts: list[list[CompletionChoice]]) -> str:
        choices = [self._told(at, _joined(parts[old]), old) for at, old in enumerate(self._kept())]
        return Completion(**self._head, choices=choices, usage=self._usage()).json_text()

    def _kept(self) -> list[int]:
        """Return which of the drawn answers are told, in order."""
        drawn, told = self._body.drawn, self._body.choices
        groups = [range(at * drawn, (at + 1) * drawn) for at in range(len(self._prompts))]
        if drawn == told or not self._outputs:
            return [index for group in groups for index in group[:told]]
        return [group[at] for group in groups for at in best([self._outputs[index] for index in group], told)]

    def _told(self, index: int, choice: CompletionChoice, drawn: int) -> CompletionChoice:
        """Return a choice in its place, with what was asked about its prompt."""
        changes: dict[str, object] = {} if choice.index == index else {"index": index}
        first = self._outputs.get(drawn - drawn % self._body.drawn)
        if first is not None and first.prompt_logprobs is not None:
            changes["prompt_logprobs"] = self._served.text.prompt(first)
        return choice.model_copy(update=changes) if changes else choice

    async def _beginnings(self) -> list[CompletionChoice]:
        """Return what stands before the generated text of each choice: nothing, or the prompt (scored once for all)."""
        reason = "length" if self._body.max_tokens == 0 else None
        pieces: list[CompletionChoice] = []
        for prompt in self._prompts:
            scored, text = await self._scored(prompt), await self._echoed(prompt)
            for _ in range(self._body.drawn):
                index = len(pieces)
                logprobs = self._writers[index].piece(prompt, scored.logprobs, scored.tops) if scored else None
                pieces.append(CompletionChoice(index=index, text=text, logprobs=logprobs, finish_reason=reason))
        return pieces

    async def _echoed(self, prompt: list[int]) -> str:
        tokenizer = self._served.llm.tokenizer
        if not self._body.echo or tokenizer is None:
            return ""
        return await asyncio.to_thread(tokenizer.decode, prompt)

    async def _scored(self, prompt: list[int]) -> Scored | None:
        """Score a prompt in a thread, one at a time: a whole forward pass holds much memory."""
        if not self._body.echo or self._body.logprobs is None:
            return None
        async with self._scoring:
            return await asyncio.to_thread(
                score_prompt, self._served.llm, prompt, top=self._body.logprobs, mode=self._served.numerics
            )

    def _piece(self, index: int, event: Event) -> CompletionChoice:
        self._generated += len(event.tokens)
        logprobs = None
        if self._body.logprobs is not None:
            # The token that ends a text, too: lm-eval counts on one entry for each token of `usage`.
            tops = event.top_logprobs or [[]] * len(event.tokens)
            logprobs = self._writers[index].piece(event.tokens, event.logprobs or [], tops)
        return CompletionChoice(index=index, text=event.text, logprobs=logprobs, finish_reason=event.finish_reason)

    def _chunk(self, piece: CompletionChoice) -> str:
        usage = {"usage": None} if self._body.wants_usage else {}
        return data(Completion(**self._head, choices=[piece], **usage).json_text())

    def _usage(self) -> Usage:
        return Usage.of(sum(map(len, self._prompts)), self._generated)


def _joined(pieces: list[CompletionChoice]) -> CompletionChoice:
    """Return the pieces of one choice as a whole."""
    parts = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    logprobs = None
    if parts:
        tops = [part.top_logprobs for part in parts if part.top_logprobs is not None]
        logprobs = CompletionLogprobs(
            tokens=[token for part in parts for token in part.tokens],
            token_logprobs=[value for part in parts for value in part.token_logprobs],
            top_logprobs=[table for top in tops for table in top] if tops else None,
            text_offset=[offset for part in parts for offset in part.text_offset],
        )
    return CompletionChoice(
        index=pieces[0].index,
        text="".join(piece.text for piece in pieces),
        logprobs=logprobs,
        finish_reason=pieces[-1].finish_reason,
    )
