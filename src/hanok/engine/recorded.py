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

from hanok.engine.choose import Ranked, ranked
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
CHANCES = 2  # failures with the head and without it; one may have a passing cause, such as a table that has to grow
TOKENS = FEW  # of a step: what repeats itself is answers, one token each, and not prompts

Step = tuple[Tensor, Ranked | None]


class Recorder:
    """The steps of one engine: plain forwards, and recordings of those that come again and again.

    The model's parts that were seen stay in memory until the next step.
    """

    def __init__(self, model: Model) -> None:
        self.replayed = 0  # tokens of the last step, if it was a recording
        self._times = [0] * (TOKENS + 1)
        self._begin(model)

    def _begin(self, model: Model) -> None:
        self._model = model
        self._tapes: OrderedDict[tuple[Any, ...], tuple[Tape[Step], Paged, Ints]] = OrderedDict()
        self._watch: Watch | None = None
        self._sure = False  # the whole model was the same, and each step since came `again`
        self._most, self._heads, self._failed = TOKENS, True, 0

    def rest(self) -> None:
        """Let go of what only steps that follow one another need."""
        self._sure = False
        if self._watch is not None:
            self._watch.release()

    def step(self, model: Model, ids: list[int], ctx: Paged, *, head: bool = False, again: bool = False) -> Step:
        """Return the last hidden states (1,T,dim) of tokens (T), and with `head` what drawing needs of them.

        None for the latter where it could not be recorded. The next step overwrites all of it. `again`: nobody but
        another thread can have exchanged parts of the model since the last step.
        """
        if model is not self._model:
            self._begin(model)
        count, self.replayed, self._sure = len(ids), 0, self._sure and again
        library, mode = native.kernels(), current()
        if mode == "exact" and native.exact_kernels() is not library:
            library = None  # it came after the first exact product
        if library is None or count > self._most or ctx.device.type != "cpu":
            return self._plain(ids, ctx), None
        self._times[count] += 1
        if self._times[count] < AFTER:
            return self._plain(ids, ctx), None
        head = head and self._heads
        key = (count, head, ctx.place, torch.get_num_threads(), id(library), mode)
        if key not in self._tapes or not self._same(again):
            return self._record(key, Tape(library), ids, ctx)
        self._tapes.move_to_end(key)
        tape, seen, into = self._tapes[key]
        seen.follow(ctx)
        into[:] = ids
        found = tape.replay()
        if found is None:  # it does not fit any more: a table of angles has to grow
            del self._tapes[key]
            return self._plain(ids, ctx), None
        self.replayed = count
        return found

    def _same(self, again: bool) -> bool:
        """Say whether the model is the one that was recorded; of steps that follow one another each asks an eighth."""
        if self._watch is None:
            return False
        if self._sure:
            return self._watch.same_here()
        same = self._watch.same()
        if same and again:
            self._watch.hold()
            self._sure = True
        return same

    def _plain(self, ids: list[int], ctx: Paged) -> Tensor:
        return self._model.hidden(torch.tensor([ids], device=ctx.device), ctx)

    def _record(self, key: tuple[Any, ...], tape: Tape[Step], ids: list[int], ctx: Paged) -> Step:
        self._sure = False
        if not self._same(again=False):
            self._tapes.clear()
            self._watch = Watch(self._model)
        tokens, (count, head, place, *_) = torch.tensor([ids]), key
        assert ctx.positions.shape == tokens.shape, "a position for each token, made before anything is recorded"

        def forward() -> Step:
            hidden = self._model.hidden(tokens, ctx)
            return hidden, ranked(self._model.logits(hidden[0])) if head else None

        try:
            found = tape.record(forward)
        except NotRecordableError:
            return self._not_recorded(ids, ctx)
        self._failed = 0 if self._heads else CHANCES
        if tape.bytes > ROOM:
            self._most = count - 1
            return found
        for old in [old for old in self._tapes if old[2] != place]:  # of memory that has moved
            del self._tapes[old]
        self._tapes[key] = (tape, ctx, tokens[0].numpy())
        while len(self._tapes) > KEPT or sum(held.bytes for held, _, _ in self._tapes.values()) > ROOM:
            self._tapes.popitem(last=False)
        return found

    def _not_recorded(self, ids: list[int], ctx: Paged) -> Step:
        """Do without the head's part after some failures, and without recordings after some more."""
        self._failed += 1
        self._heads = self._failed < CHANCES
        if self._failed >= 2 * CHANCES:
            self._most = 0
            self._tapes.clear()
        return self._plain(ids, ctx), None
