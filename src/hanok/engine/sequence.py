"""A request in flight: its tokens, its share of the pool, its random numbers and its text."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Collection
from typing import Any, Protocol

from hanok.engine.grammar.matcher import GrammarTooComplex, Matcher
from hanok.engine.pool import Slot
from hanok.engine.request import Event, FinishReason, Output, Request, TopLogprobs
from hanok.engine.speculative import NOTHING, Draft
from hanok.engine.stops import StopText


class TextStream(Protocol):
    """What turns token ids into text bit by bit; a tokenizer's `Detokenizer`."""

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


class Sequence:
    """One request from its arrival to its last token."""

    def __init__(
        self,
        id: int,
        request: Request,
        *,
        prompt: list[int],
        max_tokens: int,
        stop_ids: Collection[int],
        seed: int,
        text: TextStream | None,
        source: list[int] | None = None,
    ) -> None:
        self.id, self.request, self.source = id, request, source
        self.tokens = list(prompt)  # prompt and everything drawn: what a preempted sequence is recomputed from
        self.prompt = len(prompt)
        self.last = len(prompt) + max_tokens
        self.stop_ids = frozenset(stop_ids)
        self.slot: Slot | None = None
        self.group: object = None  # whose it is, where clients take turns
        self.turn = (0, id)  # the scheduler's order: who has a smaller one goes first
        self.cached = 0  # tokens of the prompt that the prefix cache had
        self.arrived = time.monotonic()
        self.began: float | None = None  # when it first got a place
        self.first: float | None = None  # when its first token was there
        self.draft: Draft = NOTHING  # what is guessed to come next, and still to be checked
        self.seed = seed
        # Seeded by text, because random.Random takes a number's absolute value.
        self._random = random.Random(str(seed)) if request.temperature > 0 else None
        self._uniforms: deque[float] = deque()  # drawn for places that are not reached yet
        self.matcher: Matcher | None = None  # where its text stands in a grammar
        self.bad_words: tuple[tuple[int, ...], ...] = ()  # rows of tokens that must not be written
        self.memo: dict[str, Any] = {}  # what processors keep from step to step
        self.prompt_logprobs: list[float | None] = [None]  # filled while the prompt is read
        self.prompt_tops: list[TopLogprobs | None] = [None]
        self._stream = text
        self._stops = StopText(request.stop)
        self._texts: list[str] = []
        self._logprobs: list[float] = []
        self._tops: list[TopLogprobs] = []

    @property
    def generated(self) -> int:
        """Return how many tokens were drawn."""
        return len(self.tokens) - self.prompt

    @property
    def left(self) -> int:
        """Return how many tokens the model has not read yet."""
        return len(self.tokens) - (self.slot.length if self.slot else 0)

    @property
    def guessed(self) -> int:
        """Return how many guesses the model is reading in this step, behind the tokens that are known."""
        return max(0, -self.left)

    def part(self, start: int, length: int) -> list[int]:
        """Return tokens from a place on, guesses behind the known ones."""
        known = self.tokens[start : start + length]
        return known if len(known) == length else [*known, *self.draft.tokens[: length - len(known)]]

    def uniforms(self, count: int) -> list[float]:
        """Return this request's own random numbers in [0, 1) for the next `count` places; `push` uses up the first."""
        if self._random is None:
            return [0.0] * count
        while len(self._uniforms) < count:
            self._uniforms.append(self._random.random())
        return [self._uniforms[at] for at in range(count)]

    def push(self, token: int, logprob: float | None, top: TopLogprobs | None) -> Event:
        """Take the token that was drawn and return what to tell the caller."""
        self.tokens.append(token)
        if self.first is None:
            self.first = time.monotonic()
        if self._uniforms:
            self._uniforms.popleft()
        if logprob is not None:
            self._logprobs.append(logprob)
        if top is not None:
            self._tops.append(top)
        try:
            reason, text = self._read(token)
        except GrammarTooComplex as error:
            return self.end("error", error)
        self._texts.append(text)
        logprobs, tops = None if logprob is None else [logprob], None if top is None else [top]
        if reason is None:
            return Event(self.id, text, [token], logprobs, tops)
        return Event(self.id, text, [token], logprobs, tops, reason, self.output(reason))

    def end(self, reason: FinishReason, error: Exception | None = None) -> Event:
        """Finish early, with all the text that was withheld."""
        text = self._rest()
        self._texts.append(text)
        return Event(self.id, text, [], None, None, reason, self.output(reason), error)

    def output(self, reason: FinishReason) -> Output:
        """Return everything so far."""
        asked, scored = self.request.logprobs, self.request.prompt_logprobs
        return Output(
            tokens=self.tokens[self.prompt :],
            logprobs=None if asked is None else list(self._logprobs),
            text="".join(self._texts),
            finish_reason=reason,
            prompt_tokens=self.prompt,
            prompt_ids=self.tokens[: self.prompt],
            top_logprobs=list(self._tops) if asked else None,
            prompt_logprobs=None if scored is None else list(self.prompt_logprobs),
            prompt_top_logprobs=list(self.prompt_tops) if scored else None,
            cached_tokens=self.cached,
            queue_time=None if self.began is None else self.began - self.arrived,
            prefill_time=None if self.began is None or self.first is None else self.first - self.began,
        )

    def _read(self, token: int) -> tuple[FinishReason | None, str]:
        """Return why the sequence ends with this token, if it does, and the text that can be shown now."""
        enough = self.generated >= self.request.min_tokens
        if token in self.stop_ids and (enough if self.matcher is None else self.matcher.complete):
            return "stop", self._rest()
        if self.matcher is not None:
            self.matcher.push(token)
        text = "" if self._stream is None else self._show(self._stream.push(token), enough)
        if self._stops.stopped:
            return "stop", text
        if self.matcher is not None and self.matcher.done:
            return "stop", text + self._rest(text)
        if len(self.tokens) >= self.last:
            text += self._rest(text)
            return ("stop" if self._stops.stopped else "length"), text
        return None, text

    def _show(self, text: str, enough: bool) -> str:
        # Before min_tokens a stop string is ordinary text, even one that is only half written then.
        return self._cut(text) if enough else text

    def _cut(self, text: str, before: str = "") -> str:
        text = self._stops.push(text)
        if not self._stops.stopped or self.matcher is None:
            return text
        # A text that would not be one of its grammar is not cut: the stop string is ordinary text there, too.
        whole = self.matcher.accepts("".join([*self._texts, before, text]))
        return text if whole else text + self._stops.resume()

    def _rest(self, before: str = "") -> str:
        if self._stream is None:
            return ""
        text = self._cut(self._stream.finish(), before)
        return text if self._stops.stopped else text + self._stops.finish()
