"""Beam search: the texts that are likeliest as a whole, over forks of one sequence's memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.choose import log_probs
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Read, Slot
from hanok.engine.prepare import Served, prepare
from hanok.engine.request import Prompt, Request, real, whole
from hanok.engine.sequence import Sequence
from hanok.ops.attention import BLOCK

CHUNK = 512  # tokens of the prompt that are read at once
MOST = 64

Early = bool | Literal["never"]


@dataclass(frozen=True)
class Beam:
    """One text: its tokens (a final stop token included), its log-prob, and that over length ** length_penalty."""

    tokens: list[int]
    logprob: float
    score: float
    text: str = ""


@dataclass(eq=False)
class Hypothesis:
    """A text that is still growing."""

    slot: Slot
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0


@dataclass(frozen=True)
class Settings:
    """How wide to search, how length counts, and when to stop (`beam_search` says what they mean)."""

    beams: int
    length_penalty: float
    early_stopping: Early
    longest: int
    stops: Collection[int]

    def score(self, logprob: float, length: int) -> float:
        """Return a text's rank: its log-prob over length ** length_penalty."""
        penalty: float = float(length) ** self.length_penalty
        return logprob / penalty


@torch.inference_mode()
def beam_search(
    llm: Served,
    prompt: Prompt,
    max_tokens: int | None = 32,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    early_stopping: Early = False,
    ignore_eos: bool = False,
) -> list[Beam]:
    """Return up to `beams` finished texts, the best first.

    A step keeps the likeliest `beams` of all continuations; one that ends among them is finished. The search stops with
    `early_stopping` True once there are enough; with False when the best that grows is behind the worst finished at its
    present length; with "never" when it could not catch up at any length. As in `transformers` (5.x), score for score.
    """
    beams = whole("beams", beams, low=1, high=MOST + 1)
    length_penalty = real("length_penalty", length_penalty, low=-10.0, high=10.0)
    if not isinstance(early_stopping, bool) and early_stopping != "never":
        raise UsageError(f"early_stopping must be True, False or 'never', not {early_stopping!r}")
    request = Request(prompt, max_tokens, temperature=0.0, ignore_eos=ignore_eos)
    sequence = prepare(llm, request, id=0, seed=0, capacity=None)
    settings = Settings(beams, length_penalty, early_stopping, sequence.last - sequence.prompt, sequence.stop_ids)
    found = _Search(llm, sequence, settings).run()
    return [Beam(beam.tokens, beam.logprob, beam.score, _text(llm, beam.tokens)) for beam in found]


class _Search:
    def __init__(self, llm: Served, sequence: Sequence, settings: Settings) -> None:
        self.model, self.settings = llm.model, settings
        pages = (-(-sequence.last // BLOCK) + 1) * (2 * settings.beams + 1)
        self.pool = Pool(llm.model.memory(), pages, page_size=BLOCK, dtype=llm.model.dtype, device=llm.model.device)
        self.finished: list[Beam] = []
        slot = self.pool.open()
        if sequence.source is not None:
            source = torch.tensor([sequence.source], device=llm.model.device)
            slot.source = Read(llm.model.encode(source).states)
        self.running = [Hypothesis(slot)]
        for start in range(0, sequence.prompt, CHUNK):
            self.logits = self._read([sequence.tokens[start : start + CHUNK][: sequence.prompt - start]])

    def run(self) -> list[Beam]:
        """Return the finished texts, the best first."""
        for length in range(1, self.settings.longest + 1):
            growing = self._step(length)
            if not growing or self._enough(growing[0][1], length):
                break
            self._grow(growing)
            self.logits = self._read([[beam.tokens[-1]] for beam in self.running])
        return self.finished

    def _step(self, length: int) -> list[tuple[int, float, int]]:
        """Finish what ends here; return (parent, log-prob, token) of what goes on, the best first."""
        settings, vocab = self.settings, self.logits.shape[-1]
        table = log_probs(self.logits)
        so_far = torch.tensor([beam.logprob for beam in self.running], dtype=table.dtype, device=table.device)
        total = (table + so_far[:, None]).flatten()
        # Enough for `beams` to go on even if every stop token follows on every beam.
        best = total.topk(min(len(total), max(2, 1 + len(settings.stops)) * settings.beams))
        growing = []
        for rank, (logprob, at) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, token = divmod(at, vocab)
            if token not in settings.stops and length < settings.longest:
                growing.append((parent, logprob, token))
            elif rank < settings.beams:
                tokens = [*self.running[parent].tokens, token]
                self.finished.append(Beam(tokens, logprob, settings.score(logprob, length)))
        self.finished = sorted(self.finished, key=lambda beam: -beam.score)[: settings.beams]
        return growing[: settings.beams]

    def _enough(self, best: float, length: int) -> bool:
        """Say whether what grows, the best with this log-prob, is not worth going on with."""
        settings = self.settings
        if len(self.finished) < settings.beams:
            return False
        if settings.early_stopping is True:
            return True
        hopeful = settings.early_stopping == "never" and settings.length_penalty > 0
        return settings.score(best, settings.longest if hopeful else length) <= self.finished[-1].score

    def _grow(self, growing: list[tuple[int, float, int]]) -> None:
        """Give each text its memory: the first child of a parent takes its, the others fork it."""
        children: list[Hypothesis] = []
        heirs: set[int] = set()
        for parent, logprob, token in growing:
            past = self.running[parent]
            slot = self.pool.fork(past.slot) if parent in heirs else past.slot
            heirs.add(parent)
            children.append(Hypothesis(slot, [*past.tokens, token], logprob))
        for parent, past in enumerate(self.running):
            if parent not in heirs:
                self.pool.close(past.slot)
        self.running = children

    def _read(self, parts: list[list[int]]) -> Tensor:
        """Read each running text's next tokens; return the logits behind them (N,V)."""
        rows = []
        for beam, part in zip(self.running, parts, strict=True):
            self.pool.append(beam.slot, len(part))
            rows.append(Row(beam.slot, beam.slot.length - len(part), len(part)))
        tokens = torch.tensor([[id for part in parts for id in part]], device=self.model.device)
        hidden = self.model.hidden(tokens, Paged(self.pool, rows))[0]
        ends = torch.tensor([len(part) for part in parts]).cumsum(0) - 1
        logits = self.model.logits(hidden[ends.to(hidden.device)])
        return logits if logits.dtype == torch.float64 else logits.float()


def _text(llm: Served, tokens: list[int]) -> str:
    ended = bool(tokens) and tokens[-1] in llm.stop_ids
    return "" if llm.tokenizer is None else llm.tokenizer.decode(tokens[:-1] if ended else tokens)
