"""Multi-token prediction heads guess: the modules that the model was trained with look further ahead."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.processor import Place, process
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, PROPOSERS, Draft, Reading, Target, room
from hanok.model.model import Model
from hanok.nn.context import Memory, PerSequence


@dataclass
class Ahead:
    """What is known ahead of one sequence: its guesses, and the last sound state of each depth, by its place."""

    sequence: Sequence
    guesses: list[int] = field(default_factory=list)
    kept: dict[int, tuple[int, Tensor]] = field(default_factory=dict)


@dataclass
class Part:
    """One sequence in one step: places start .. end - 1 are read, of true tokens all."""

    ahead: Ahead
    row: Row
    start: int
    end: int
    hidden: Tensor  # (end - start, dim): states of the depth before
    kept: dict[int, tuple[int, Tensor]]  # what the last step left


@PROPOSERS.register("mtp", paper="DeepSeek-AI 2024, arXiv 2412.19437; Gloeckle et al. 2024, arXiv 2404.19737")
class MTP:
    """Module k reads state h^{k-1}_i and token t_{i+k} and guesses t_{i+k+1}: as many guesses as there are modules.

    The modules keep their own past in the target's pool, behind its layers. They read whatever the model reads, one
    place later per depth, because they need tokens that come behind it; at the end of the text these are guesses, and
    what was made of them is made again when the true tokens are there.
    """

    class Config(PartConfig):
        kind: Literal["mtp"] = "mtp"
        tokens: int | None = pydantic.Field(default=None, ge=1, strict=True)

    def __init__(self, config: Config, target: Target) -> None:
        self.model, self._pool = target.llm.model, target.pool
        modules = len(self.model.mtp or ())
        if config.tokens is not None and config.tokens > modules:
            raise UsageError(f"speculation.tokens is {config.tokens}, but this model has {modules} modules ahead")
        self._depths = config.tokens or modules
        self._known: dict[int, Ahead] = {}

    @staticmethod
    def memory(model: Model) -> list[Memory]:
        if model.mtp is None:
            raise UsageError(
                "speculation 'mtp' needs a model with multi-token prediction modules, and this one has none"
            )
        memory = model.mtp.memory()
        if any(isinstance(spec, PerSequence) for spec in memory):
            raise UsageError("speculation 'mtp' needs modules that attend: a state cannot take guesses back by place")
        return memory

    def observe(self, reading: Reading) -> None:
        parts, offset = [], 0
        for sequence, row in zip(reading.sequences, reading.rows, strict=True):
            hidden = reading.hidden_TD[offset : offset + row.length]
            offset += row.length
            if sequence.slot is None:
                continue
            ahead = self._known.setdefault(sequence.id, Ahead(sequence))
            ahead.guesses.clear()
            end = min(row.start + row.length, len(sequence.tokens) - 1)
            if end > row.start:
                parts.append(Part(ahead, row, row.start, end, hidden[: end - row.start], dict(ahead.kept)))
        for depth in range(1, self._depths + 1):
            if parts:
                self._read(parts, depth)

    def propose(self, sequences: Ordered[Sequence]) -> list[Draft]:
        drafts = []
        for sequence in sequences:
            ahead = self._known.get(sequence.id)
            found = [] if ahead is None else ahead.guesses[: room(sequence, self._depths)]
            drafts.append(Draft(tuple(found)) if found else NOTHING)
        return drafts

    def sweep(self) -> None:
        gone = [id for id, ahead in self._known.items() if ahead.sequence.slot is None]
        for id in gone:
            del self._known[id]

    def _read(self, parts: list[Part], depth: int) -> None:
        """Run one module over the parts; what it returns is what the next one reads, and the next guesses."""
        if depth > 1:
            self._reach_back(parts, depth)
        rows = [Row(part.row.slot, part.start, part.end - part.start) for part in parts]
        following = [id for part in parts for id in _following(part, depth)]
        ctx = Paged(self._pool, rows)
        tokens = torch.tensor([following], device=self.model.device)
        hidden = torch.cat([part.hidden for part in parts])[None]
        after = self.model.ahead(hidden, tokens, ctx, depth=depth)[0]
        split = after.split([row.length for row in rows])
        for part, states in zip(parts, split, strict=True):
            part.hidden = states
            # The next depth starts one place further back in the next step: the state there is remembered.
            if len(states) >= depth:
                part.ahead.kept[depth] = (part.end - depth, states[-depth].clone())
        self._guess(parts)

    def _reach_back(self, parts: list[Part], depth: int) -> None:
        """Put in front the place whose following token was a guess in the last step, where its state is known."""
        for part in parts:
            at, state = part.kept.get(depth - 1, (-1, None))
            if state is not None and at == part.start - 1:
                part.start, part.hidden = at, torch.cat([state[None], part.hidden])

    def _guess(self, parts: list[Part]) -> None:
        """Guess behind the sequences that are read to their end."""
        ready = [part for part in parts if part.end == len(part.ahead.sequence.tokens) - 1]
        if not ready:
            return
        raw = self.model.logits(torch.stack([part.hidden[-1] for part in ready]))
        logits = raw if raw.dtype == torch.float64 else raw.float()
        places = [Place(part.ahead.sequence, tuple(part.ahead.guesses)) for part in ready]
        for part, id in zip(ready, process(logits, places).argmax(-1).tolist(), strict=True):
            part.ahead.guesses.append(id)


def _following(part: Part, depth: int) -> list[int]:
    """Return the tokens `depth` places behind a part's: true ones, then guesses, then nothing that matters.

    In the middle of a prompt some are not read yet; those places are read again in the next step, as after guesses.
    """
    first, last = part.start + depth, part.end + depth
    ahead = part.ahead
    found = [*ahead.sequence.tokens[first:last], *ahead.guesses][: last - first]
    return found + [0] * (last - first - len(found))
