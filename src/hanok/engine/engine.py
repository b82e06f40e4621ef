"""The engine: requests in, events out, one model step at a time."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence as Ordered
from typing import Any

import torch
from torch import Tensor

from hanok.core.device import memory_bytes
from hanok.core.errors import HanokError
from hanok.engine.accept import accept
from hanok.engine.choose import Ranked, choose, ranked, reported
from hanok.engine.config import EngineConfig
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Read, span
from hanok.engine.prefix import PrefixCache
from hanok.engine.prepare import Served, prepare
from hanok.engine.processor import Place, process
from hanok.engine.prompt_scores import score_prompts
from hanok.engine.recorded import Recorder
from hanok.engine.request import Event, Output, Request
from hanok.engine.scheduler import Scheduler
from hanok.engine.sequence import Sequence
from hanok.engine.speculation import Speculation
from hanok.engine.speculative import NOTHING, PROPOSERS, Reading, Target
from hanok.engine.stats import Stats
from hanok.engine.store import page_bytes
from hanok.model.model import Model
from hanok.nn.context import Memory
from hanok.ops.numerics import numerics

SHARE = 0.25  # of the machine's memory that a pool may grow to by itself


class Engine:
    """Generates for many requests at once over paged memory: continuous batching, chunked prefill, preemption.

    `Engine(llm, numerics="exact", ...)` takes the keys of `EngineConfig`; with "exact" each token's log-prob equals,
    to the last bit, that of a training forward. Not thread-safe: see `EngineWorker`.
    """

    def __init__(self, llm: Served, **options: Any) -> None:
        self.llm, self.config = llm, EngineConfig.parse(options, where="Engine")
        model, config = llm.model, self.config
        spec = config.speculation
        memory = model.memory() + (PROPOSERS[spec.kind].memory(model) if spec else [])
        self.pool = Pool(
            memory,
            config.num_pages or _affordable(model, config, memory),
            page_size=config.page_size,
            dtype=model.dtype,
            device=model.device,
            order=config.page_order,
            seed=config.seed,
        )
        self.prefix = PrefixCache(self.pool, state_bytes=config.prefix_state_bytes) if config.prefix_cache else None
        self._weights: list[tuple[int, int]] = []  # that the prefix cache was computed with
        self.scheduler = Scheduler(
            self.pool,
            max_batch_tokens=config.max_batch_tokens,
            max_sequences=config.max_sequences,
            chunk=config.chunk,
            prefix=self.prefix,
        )
        target = Target(llm, self.pool, config.max_sequences, config.chunk)
        self.speculation = Speculation(spec, target) if spec else None
        self._recorder = Recorder(model)
        self._random = random.Random(config.seed)
        self._ids = itertools.count()
        self._live: dict[int, Sequence] = {}
        self._prompted = self._generated = self._computed = self._steps = self._finished = 0

    def generate(self, requests: Ordered[Request]) -> list[Output]:
        """Run requests to their end and return their outputs in order; an error in one is raised."""
        prepared = [self.prepare(request) for request in requests]  # all are checked before any runs
        waiting = {sequence.id for sequence in prepared}
        outputs: dict[int, Output] = {}
        try:
            for sequence in prepared:
                self.enqueue(sequence)
            again = False
            while waiting:
                for event in self.step(again=again):
                    if event.error is not None and event.id in waiting:
                        raise event.error
                    if event.output is not None:
                        outputs[event.id] = event.output
                        waiting.discard(event.id)
                again = True
        finally:
            for id in waiting:
                self.abort(id)
        return [outputs[sequence.id] for sequence in prepared]

    def add(self, request: Request) -> int:
        """Queue a request and return its id; one that can never be served is refused here."""
        return self.enqueue(self.prepare(request))

    def prepare(self, request: Request) -> Sequence:
        """Check and encode a request without queueing it (safe from other threads)."""
        seed = self._random.getrandbits(62)
        return prepare(self.llm, request, id=next(self._ids), seed=seed, capacity=self.scheduler.capacity)

    def enqueue(self, sequence: Sequence) -> int:
        """Queue what `prepare` returned."""
        if self.prefix is not None and not self._live:
            weights = _marks(self.llm.model)
            if weights != self._weights:  # they were trained on, or exchanged, while nothing ran
                self.reset_prefix_cache()
                self._weights = weights
        self._live[sequence.id] = sequence
        self.scheduler.add(sequence)
        self._prompted += sequence.prompt
        return sequence.id

    def abort(self, id: int) -> Event | None:
        """Stop a request and free its memory; return its last event, or None if it had already ended."""
        sequence = self._live.get(id)
        return None if sequence is None else self._end(sequence, sequence.end("abort"))

    def fail(self, id: int, error: Exception) -> Event | None:
        """Stop a request because of an error; otherwise like `abort`."""
        sequence = self._live.get(id)
        return None if sequence is None else self._end(sequence, sequence.end("error", error))

    def reset_prefix_cache(self) -> None:
        """Forget all that was computed for others to begin with; whoever changes weights during a request must do so.

        Between requests the engine notices changed weights by itself, as far as PyTorch counts the changes (it does
        not count those made through `.data`). What runs now goes on, and leaves nothing behind.
        """
        if self.prefix is not None:
            self.prefix.clear()

    @property
    def numerics(self) -> str:
        """Return which numerics the engine computes with."""
        return self.config.numerics

    @property
    def replayed(self) -> int:
        """Return how many tokens the last step computed by replaying an earlier one, 0 if it did not."""
        return self._recorder.replayed

    @property
    def has_work(self) -> bool:
        """Say whether any request is waiting or running."""
        return bool(self._live)

    def step(self, *, again: bool = False) -> list[Event]:
        """Compute one batch and return what it brought; an exception in it ends its requests with an error event.

        `again` says that this thread did nothing since the last step but to pass on what that brought. Parts of the
        model that another thread exchanges meanwhile are then noticed within eight recorded steps, not in the next.
        """
        try:
            plan = self.scheduler.plan()
        except Exception as error:  # such as no memory for more pages: who runs has no sound memory any more
            if not self.scheduler.running:
                raise
            return [self._end(s, s.end("error", error)) for s in list(self.scheduler.running)]
        if not plan:
            return []
        sequences, rows = list(plan), list(plan.values())
        self._steps += 1
        self._computed += sum(row.length for row in rows)
        events: list[Event] = []
        try:
            with torch.inference_mode(), numerics(self.config.numerics):
                ready, found, hidden = self._forward(sequences, rows, again)
                if found is not None:
                    events += self._draw(ready, found)
                if self.speculation is not None:
                    self.speculation.after(Reading(sequences, rows, hidden))
        except Exception as error:
            events += [self._end(s, s.end("error", error)) for s in sequences if s.id in self._live]
        return events

    def stats(self) -> Stats:
        """Return what is going on."""
        return Stats(
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            pages_used=self.pool.pages_used,
            pages_total=self.pool.num_pages,
            prompt_tokens=self._prompted,
            generated_tokens=self._generated,
            computed_tokens=self._computed,
            steps=self._steps,
            preemptions=self.scheduler.preemptions,
            finished=self._finished,
            prefix_queries=self.scheduler.queried,
            prefix_hits=self.scheduler.found,
            pages_cached=0 if self.prefix is None else self.prefix.pages,
            prefix_state_bytes=0 if self.prefix is None else self.prefix.bytes,
            **({} if self.speculation is None else self.speculation.counts()),
        )

    def check(self) -> None:
        """Raise `AssertionError` if pages, tables and sequences do not agree."""
        self.pool.check()
        if self.prefix is not None:
            self.prefix.check()
        queued = [*self.scheduler.waiting, *self.scheduler.running]
        assert {s.id for s in queued} == set(self._live) and len(queued) == len(self._live), "a sequence was lost"
        assert all(s.slot is None for s in self.scheduler.waiting), "a waiting sequence holds memory"
        held = {page for s in self.scheduler.running if s.slot for page in s.slot.pages if page}
        assert len(held) <= self.pool.pages_used, "more pages are held than used"

    def _forward(
        self, sequences: list[Sequence], rows: list[Row], again: bool
    ) -> tuple[dict[Sequence, int], Ranked | None, Tensor]:
        """Run the model over the rows; return who is read to its end, with how many logits, these, and the states.

        Logits (N,V) have one row for a sequence, and one more for each guess that was read behind its own tokens; None
        where nobody is read to its end.
        """
        model = self.llm.model
        if self.speculation is not None:
            self.speculation.before(sequences, rows)
        for sequence in sequences:
            if sequence.source is not None and sequence.slot is not None and sequence.slot.source is None:
                source = torch.tensor([sequence.source], device=model.device)
                sequence.slot.source = Read(model.encode(source).states)
        parts = [s.part(row.start, row.length) for s, row in zip(sequences, rows, strict=True)]
        ids = [id for part in parts for id in part]
        ready: dict[Sequence, int] = {}
        last: list[int] = []
        end = 0
        for sequence, row in zip(sequences, rows, strict=True):
            end += row.length
            if sequence.left <= 0:
                ready[sequence] = 1 - sequence.left
                last += range(end - 1 + sequence.left, end)
        whole = len(last) == len(ids)
        states, found = self._recorder.step(model, ids, Paged(self.pool, rows), head=whole, again=again)
        hidden = states[0] if self.speculation is None else states[0].clone()  # a proposer may keep some
        score_prompts(model, sequences, rows, hidden)
        if last and found is None:
            found = ranked(model.logits(hidden if whole else hidden[last]))
        return ready, found, hidden

    def _draw(self, ready: dict[Sequence, int], found: Ranked) -> list[Event]:
        """Choose each sequence's next token, and those at its guesses, and pass on what stands."""
        places = [Place(s, s.draft.tokens[:at]) for s, count in ready.items() for at in range(count)]
        logits, highest, best = found
        sound = [math.isfinite(top) for top in highest.tolist()]
        if not all(sound):
            return self._unsound(ready, logits, sound)
        requests = [place.sequence.request for place in places]
        uniforms = [number for s, count in ready.items() for number in s.uniforms(count)]
        processed = process(logits, places)
        tokens = choose(processed, requests, uniforms, best if processed is logits else None)
        if self.speculation is not None:
            tokens = accept(processed, places, tokens, uniforms)
        chosen, tops = reported(logits, requests, tokens)
        events, drawn, start = [], tokens.tolist(), 0
        for sequence, count in ready.items():
            at = slice(start, start + count)
            start = at.stop
            if self.speculation is None:
                event = sequence.push(drawn[at.start], chosen[at.start], tops[at.start])
            else:
                event = self.speculation.push(sequence, drawn[at], chosen[at], tops[at])
            self._generated += len(event.tokens)
            events.append(event if event.output is None else self._end(sequence, event))
        return events

    def _unsound(self, ready: dict[Sequence, int], logits_NV: Tensor, sound: list[bool]) -> list[Event]:
        """End the sequences whose logits are no numbers, and go on with the others.

        Where a guess was read, it may have been the guess: the sequence starts anew, and fails only without one.
        """
        failure = "the model's logits are not finite: its weights, or the numbers in this prompt, have overflowed"
        events: list[Event] = []
        good: dict[Sequence, int] = {}
        keep: list[int] = []
        start = 0
        for sequence, count in ready.items():
            rows = range(start, start + count)
            start = rows.stop
            if all(sound[at] for at in rows):
                good[sequence] = count
                keep += rows
            elif count > 1:
                sequence.draft = NOTHING
                self.scheduler.preempt(sequence)
            else:
                events.append(self._end(sequence, sequence.end("error", HanokError(failure))))
        return events + (self._draw(good, ranked(logits_NV[keep])) if good else [])

    def _end(self, sequence: Sequence, event: Event) -> Event:
        del self._live[sequence.id]
        reason = event.finish_reason
        self.scheduler.remove(sequence, done=reason in ("stop", "length"), failed=reason == "error")
        if self.speculation is not None:
            self.speculation.proposer.sweep()
        self._finished += 1
        if not self._live:
            self._recorder.rest()
        return event


def _affordable(model: Model, config: EngineConfig, layers: list[Memory]) -> int:
    """Return the pages of all sequences' full contexts, or as many as a share of the memory holds; one at least."""
    each = max(1, span(layers, config.page_size, model.config.context, config.chunk))
    most = each * config.max_sequences
    memory, size = memory_bytes(), page_bytes(layers, config.page_size, model.dtype)
    limit = int(SHARE * memory) // size if memory and size else most
    return max(each, min(most, limit))


def _marks(model: Model) -> list[tuple[int, int]]:
    """Return where each tensor of a model lies and how often it was written, as far as PyTorch counts."""
    tensors = [*model.parameters(), *model.buffers()]
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
