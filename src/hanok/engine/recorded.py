"""Decode steps that repeat: the forward of a number of tokens is recorded once and then replayed by one call.

Only forwards made of kernels alone can be recorded (attention models with dense feed-forward networks in float32);
every other goes on as ever. A recording holds addresses. It is made anew when the pool's memory has
moved, and dropped when any module, parameter or hook of the model is no longer the one that it saw, or lies elsewhere.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from hanok.engine.choose import Scored, scored
from hanok.engine.paged import FEW, Paged
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
    """The forwards of one engine, as `model.hidden` gives them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tapes: OrderedDict[tuple[Any, ...], tuple[Tape[Step], Paged, Tensor]] = OrderedDict()
        self._owners: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._parts: list[Any] = []
        self._tensors: list[Tensor] = []
        self._places: list[int] = []
        self._hooks: list[dict[Any, Any]] = []
        self._times, self._most, self._heads = [0] * (TOKENS + 1), TOKENS, True
        self.replayed = 0  # tokens of the last step, if it was a recording

    def hidden(self, model: Model, tokens: Tensor, ctx: Paged) -> Tensor:
        """Return the last hidden states (1,T,dim) of tokens (1,T); the next step of a recording overwrites them."""
        return self.step(model, tokens, ctx, head=False)[0]

    def step(self, model: Model, tokens: Tensor, ctx: Paged, *, head: bool) -> Step:
        """Return last hidden states, and with `head` what drawing needs of them where it could be recorded, too.

        The next step overwrites all of it.
        """
        if model is not self._model:
            self._model, self._most, self._heads = model, TOKENS, True
            self._tapes.clear()
        count, self.replayed = tokens.shape[1], 0
        library, mode = native.kernels(), current()
        if mode == "exact" and native.exact_kernels() is not library:
            library = None  # it came after the first exact product
        if library is None or count > self._most:
            return self._model.hidden(tokens, ctx), None
        self._times[count] += 1
        if self._times[count] < AFTER:
            return self._model.hidden(tokens, ctx), None
        head = head and self._heads
        key = (count, head, ctx.place, torch.get_num_threads(), id(library), mode)
        if key in self._tapes and self._same():
            self._tapes.move_to_end(key)
            tape, seen, into = self._tapes[key]
            seen.follow(ctx)
            into.copy_(tokens)
            found = tape.replay()
            if found is not None:
                self.replayed = count
                return found
        return self._record(key, tokens, ctx, head)

    def _record(self, key: tuple[Any, ...], tokens: Tensor, ctx: Paged, head: bool) -> Step:
        if not self._same():
            self._tapes.clear()
        self._look()
        tape: Tape[Step] = Tape(native.kernels())
        into = tokens.clone()
        assert ctx.positions.shape == into.shape, "a position for each token, made before anything is recorded"

        def forward() -> Step:
            hidden = self._model.hidden(into, ctx)
            return hidden, scored(self._model.logits(hidden[0])) if head else None

        try:
            found = tape.record(forward)
        except NotRecordableError:
            if head:  # but perhaps the rest
                self._heads = False
                return self.step(self._model, tokens, ctx, head=False)
            self._most = 0
            self._tapes.clear()
            return self._model.hidden(tokens, ctx), None
        if tape.bytes > ROOM:
            self._most = tokens.shape[1] - 1
            return found
        self._tapes[key] = (tape, ctx, into)
        while len(self._tapes) > KEPT or sum(held.bytes for held, _, _ in self._tapes.values()) > ROOM:
            self._tapes.popitem(last=False)
        return found

    def _look(self) -> None:
        """Remember every part of the model, to see when it is another."""
        self._owners, self._names, self._parts, self._tensors, self._hooks = [], [], [], [], []
        for module in self._model.modules():
            state = vars(module)
            for kind in ("_modules", "_parameters", "_buffers"):
                self._owners += [state[kind]] * len(state[kind])
                self._names += state[kind].keys()
                self._parts += state[kind].values()
            tensors = [*state["_parameters"].values(), *state["_buffers"].values()]
            self._tensors += [tensor for tensor in tensors if tensor is not None]
            self._hooks += [state["_forward_hooks"], state["_forward_pre_hooks"]]
        self._places = list(map(Tensor.data_ptr, self._tensors))

    def _same(self) -> bool:
        """Say whether every part is the one that was seen, and its numbers lie where they lay; asked at every step."""
        if any(map(len, self._hooks)) or list(map(Tensor.data_ptr, self._tensors)) != self._places:
            return False
        return all(map(operator.is_, map(dict.get, self._owners, self._names), self._parts))
