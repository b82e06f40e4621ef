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
from hanok.engine.choose import choose, reported
from hanok.engine.config import EngineConfig
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Read
from hanok.engine.prepare import Served, prepare
from hanok.engine.processor import Place, process
from hanok.engine.request import Event, Output, Request
from hanok.engine.scheduler import Scheduler
from hanok.engine.sequence import Sequence
from hanok.engine.stats import Stats
from hanok.engine.store import page_bytes
from hanok.model.model import Model
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
        self.pool = Pool(
            model.memory(),
            config.num_pages or _affordable(model, config),
            page_size=config.page_size,
            dtype=model.dtype,
            device=model.device,
            order=config.page_order,
            seed=config.seed,
        )
        self.scheduler = Scheduler(
            self.pool,
            max_batch_tokens=config.max_batch_tokens,
            max_sequences=config.max_sequences,
            chunk=config.chunk,
        )
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
            while waiting:
                for event in self.step():
                    if event.error is not None and event.id in waiting:
                        raise event.error
                    if event.output is not None:
                        outputs[event.id] = event.output
                        waiting.discard(event.id)
        finally:
            for id in waiting:
                self.abort(id)
        return [outputs[sequence.id] for sequence in prepared]

    def add(self, request: Request) -> int:
        """Queue a request and return its id; one that can never be served is refused here."""
        return self.enqueue(self.prepare(request))

    def prepare(self, request: Request) -> Sequence:
        """Check and encode a request without queueing it (safe from other threads)."""
        capacity = self.pool.num_pages * self.pool.page_size if self.pool.paged else None
        seed = self._random.getrandbits(62)
        return prepare(self.llm, request, id=next(self._ids), seed=seed, capacity=capacity)

    def enqueue(self, sequence: Sequence) -> int:
        """Queue what `prepare` returned."""
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

    @property
    def numerics(self) -> str:
        """Return which numerics the engine computes with."""
        return self.config.numerics

    @property
    def has_work(self) -> bool:
        """Say whether any request is waiting or running."""
        return bool(self._live)

    def step(self) -> list[Event]:
        """Compute one batch and return what it brought; an exception in it ends its requests with an error event."""
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
        try:
            with torch.inference_mode(), numerics(self.config.numerics):
                ready, logits = self._forward(sequences, rows)
                return self._draw(ready, logits) if ready else []
        except Exception as error:
            return [self._end(s, s.end("error", error)) for s in sequences if s.id in self._live]

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
        )

    def check(self) -> None:
        """Raise `AssertionError` if pages, tables and sequences do not agree."""
        self.pool.check()
        queued = [*self.scheduler.waiting, *self.scheduler.running]
        assert {s.id for s in queued} == set(self._live) and len(queued) == len(self._live), "a sequence was lost"
        assert all(s.slot is None for s in self.scheduler.waiting), "a waiting sequence holds memory"
        held = {id(page) for s in self.scheduler.running if s.slot for page in s.slot.pages}
        assert len(held) <= self.pool.pages_used or not self.pool.paged, "more pages are held than used"

    def _forward(self, sequences: list[Sequence], rows: list[Row]) -> tuple[list[Sequence], Tensor]:
        """Run the model over the rows; return the sequences that are read to their end, and their logits (N,V)."""
        model = self.llm.model
        for sequence in sequences:
            if sequence.source is not None and sequence.slot is not None and sequence.slot.source is None:
                source = torch.tensor([sequence.source], device=model.device)
                sequence.slot.source = Read(model.encode(source).states)
        parts = [s.tokens[row.start : row.start + row.length] for s, row in zip(sequences, rows, strict=True)]
        tokens = torch.tensor([[id for part in parts for id in part]], device=model.device)
        hidden = model.hidden(tokens, Paged(self.pool, rows))[0]
        ready, last, end = [], [], 0
        for sequence, row in zip(sequences, rows, strict=True):
            end += row.length
            if sequence.left == 0:
                ready.append(sequence)
                last.append(end - 1)
        if len(last) < tokens.shape[1]:
            hidden = hidden[last]
        return ready, model.logits(hidden)

    def _draw(self, ready: list[Sequence], raw_NV: Tensor) -> list[Event]:
        """Choose each sequence's next token and pass it on."""
        logits = raw_NV if raw_NV.dtype == torch.float64 else raw_NV.float()
        sound = [math.isfinite(best) for best in logits.amax(-1).tolist()]
        if not all(sound):
            return self._unsound(ready, raw_NV, sound)
        requests = [s.request for s in ready]
        tokens = choose(process(logits, [Place(s) for s in ready]), requests, [s.uniform() for s in ready])
        chosen, tops = reported(logits, requests, tokens)
        events = []
        for at, (sequence, token) in enumerate(zip(ready, tokens.tolist(), strict=True)):
            event = sequence.push(token, chosen[at], tops[at])
            events.append(event if event.output is None else self._end(sequence, event))
        self._generated += len(events)
        return events

    def _unsound(self, ready: list[Sequence], raw_NV: Tensor, sound: list[bool]) -> list[Event]:
        """End the sequences whose logits are no numbers, and go on with the others."""
        failure = "the model's logits are not finite: its weights, or the numbers in this prompt, have overflowed"
        bad = [s for s, fine in zip(ready, sound, strict=True) if not fine]
        events = [self._end(s, s.end("error", HanokError(failure))) for s in bad]
        good = [at for at, fine in enumerate(sound) if fine]
        return events + (self._draw([ready[at] for at in good], raw_NV[good]) if good else [])

    def _end(self, sequence: Sequence, event: Event) -> Event:
        del self._live[sequence.id]
        self.scheduler.remove(sequence)
        self._finished += 1
        return event


def _affordable(model: Model, config: EngineConfig) -> int:
    """Return the pages of all sequences' full contexts, or as many as a share of the memory holds; one at least."""
    each = -(-model.config.context // config.page_size)
    most = each * config.max_sequences
    memory, size = memory_bytes(), page_bytes(model.memory(), config.page_size, model.dtype)
    limit = int(SHARE * memory) // size if memory and size else most
    return max(each, min(most, limit))
