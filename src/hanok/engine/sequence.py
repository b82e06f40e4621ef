"""A request in flight: its tokens, its share of the pool, its random numbers and its text."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Protocol

from hanok.engine.pool import Slot
from hanok.engine.request import Event, FinishReason, Output, Request, TopLogprobs
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
        # Seeded by text, because random.Random takes a number's absolute value.
        self._random = random.Random(str(seed)) if request.temperature > 0 else None
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

    def uniform(self) -> float:
        """Return the next of this request's own random numbers in [0, 1)."""
        return self._random.random() if self._random else 0.0

    def push(self, token: int, logprob: float | None, top: TopLogprobs | None) -> Event:
        """Take the token that was drawn and return what to tell the caller."""
        self.tokens.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        if top is not None:
            self._tops.append(top)
        reason, text = self._read(token)
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
        asked = self.request.logprobs
        return Output(
            tokens=self.tokens[self.prompt :],
            logprobs=None if asked is None else list(self._logprobs),
            text="".join(self._texts),
            finish_reason=reason,
            prompt_tokens=self.prompt,
            prompt_ids=self.tokens[: self.prompt],
            top_logprobs=list(self._tops) if asked else None,
        )

    def _read(self, token: int) -> tuple[FinishReason | None, str]:
        """Return why the sequence ends with this token, if it does, and the text that can be shown now."""
        enough = self.generated >= self.request.min_tokens
        if token in self.stop_ids and enough:
            return "stop", self._rest()
        text = "" if self._stream is None else self._show(self._stream.push(token), enough)
        if self._stops.stopped:
            return "stop", text
        if len(self.tokens) >= self.last:
            text += self._rest()
            return ("stop" if self._stops.stopped else "length"), text
        return None, text

    def _show(self, text: str, enough: bool) -> str:
        # Before min_tokens a stop string is ordinary text, even one that is only half written then.
        return self._stops.push(text) if enough else text

    def _rest(self) -> str:
        if self._stream is None:
            return ""
        text = self._stops.push(self._stream.finish())
        return text if self._stops.stopped else text + self._stops.finish()
