"""Decode steps that repeat: the forward of a number of tokens is recorded once and then replayed by one call.

Only forwards made of kernels alone can be recorded (attention models with dense feed-forward networks in float32);
every other goes on as ever. A recording holds addresses. It is made anew when the pool's memory has moved, and dropped
when any module, parameter or hook of the model is no longer the one that it saw, or lies elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from hanok.engine.choose import Scored, scored
from hanok.engine.layout import Ints
from hanok.engine.paged import FEW, Paged
from hanok.engine.watch import Watch
from hanok.model.model import Model
from hanok.ops import native
from hanok.ops.native.tape import NotRecordableError, Tape
from hanok.ops.numerics import current

AFTER = 3  # steps of one size that are worth a recording
KEPT = 8  # recordings held at once
ROOM = 256 << 20  # bytes of all recordings; one that takes more alone is not held
TOKENS = FEW  # of a step: what repeats itself is answers, one token each, and not prompts

Step = tuple[Tensor, Scored | None]


class Recorder:
    """The steps of one engine: plain forwards, and recordings of those that come again and again."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tapes: OrderedDict[tuple[Any, ...], tuple[Tape[Step], Paged, Ints]] = OrderedDict()
        self._watch: Watch | None = None
        self._sure = False  # the whole model was the same, and each step since came `again`
        self._times, self._most, self._heads = [0] * (TOKENS + 1), TOKENS, True
        self.replayed = 0  # tokens of the last step, if it was a recording

    def step(self, model: Model, ids: list[int], ctx: Paged, *, head: bool = False, again: bool = False) -> Step:
        """Return the last hidden states (1,T,dim) of tokens (T), and with `head` what drawing needs of them.

        None for the latter where it could not be recorded. The next step overwrites all of it. `again`: nobody but
        another thread can have exchanged parts of the model since the last step.
        """
        if model is not self._model:
            self._model, self._most, self._heads = model, TOKENS, True
            self._tapes.clear()
        count, self.replayed, self._sure = len(ids), 0, self._sure and again
        library, mode = native.kernels(), current()
        if mode == "exact" and native.exact_kernels() is not library:
            library = None  # it came after the first exact product
        if library is None or count > self._most:
            return self._plain(ids, ctx), None
        self._times[count] += 1
        if self._times[count] < AFTER:
            return self._plain(ids, ctx), None
        head = head and self._heads
        key = (count, head, ctx.place, torch.get_num_threads(), id(library), mode)
        if key in self._tapes and self._same():
            self._tapes.move_to_end(key)
            tape, seen, into = self._tapes[key]
            seen.follow(ctx)
            into[:] = ids
            found = tape.replay()
            if found is not None:
                self.replayed = count
                return found
        return self._record(key, Tape(library), ids, ctx)

    def _same(self) -> bool:
        if self._watch is None:
            return False
        self._sure = self._watch.same_here() if self._sure else self._watch.same()
        return self._sure

    def _plain(self, ids: list[int], ctx: Paged) -> Tensor:
        return self._model.hidden(torch.tensor([ids], device=self._model.device), ctx)

    def _record(self, key: tuple[Any, ...], tape: Tape[Step], ids: list[int], ctx: Paged) -> Step:
        if not self._same():
            self._tapes.clear()
            self._watch, self._sure = Watch(self._model), True
        tokens, (count, head, *_) = torch.tensor([ids]), key
        assert ctx.positions.shape == tokens.shape, "a position for each token, made before anything is recorded"

        def forward() -> Step:
            hidden = self._model.hidden(tokens, ctx)
            return hidden, scored(self._model.logits(hidden[0])) if head else None

        try:
            found = tape.record(forward)
        except NotRecordableError:
            if head:  # perhaps without it
                self._heads = False
                return self.step(self._model, ids, ctx)
            self._most = 0
            self._tapes.clear()
            return self._plain(ids, ctx), None
        if tape.bytes > ROOM:
            self._most = count - 1
            return found
        self._tapes[key] = (tape, ctx, tokens[0].numpy())
        while len(self._tapes) > KEPT or sum(held.bytes for held, _, _ in self._tapes.values()) > ROOM:
            self._tapes.popitem(last=False)
        return found
