"""A small model of the same vocabulary guesses for a large one."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Literal

import pydantic
import torch

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.engine.choose import Ranked, ranked
from hanok.engine.hub import find
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Slot
from hanok.engine.prepare import Served
from hanok.engine.recorded import Recorder
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, PROPOSERS, Draft, Reading, Target, room
from hanok.engine.speculative.chain import Chain
from hanok.model.gguf.load import is_gguf, load_gguf
from hanok.model.model import Model
from hanok.model.weights import DTYPES, load_model
from hanok.nn.context import Memory
from hanok.text.tokenizer import Tokenizer


@dataclass
class Follower:
    """The draft model's own memory of a sequence, and the guesses that lie at its end."""

    sequence: Sequence
    slot: Slot
    guesses: tuple[int, ...] = ()


@PROPOSERS.register("draft", paper="Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318")
class DraftModel:
    """Read along with a small model, and let it write `tokens` ahead.

    `model` is a folder, a GGUF file or a hub name; its vocabulary must be the target's. With `drawn`, requests with a
    temperature get guesses drawn from the small model, which stand with the highest probability that any rule allows
    (its overlap with the target); without it, always the most likely tokens, and then a seed gives the very text that
    it gives without guessing.
    """

    class Config(PartConfig):
        kind: Literal["draft"] = "draft"
        model: str = pydantic.Field(min_length=1)
        tokens: int = pydantic.Field(default=4, ge=1, le=64, strict=True)
        drawn: bool = True
        dtype: str | None = None

    def __init__(self, config: Config, target: Target) -> None:
        self.config = config
        self.model = _load(config, target.llm)
        self._chunk = target.chunk
        memory, size = self.model.memory(), target.pool.page_size
        # Every running sequence has room for its whole context: storage grows with use, and nobody waits for a page.
        pages = (-(-self.model.config.context // size) + 1) * target.max_sequences
        pool = Pool(memory, pages, page_size=size, dtype=self.model.dtype, device=self.model.device)
        recorder = Recorder(self.model)

        def compute(ids: list[int], ctx: Paged, ends: list[int]) -> Ranked | None:
            states, found = recorder.step(self.model, ids, ctx, head=len(ends) == len(ids))
            if ends and found is None:
                found = ranked(self.model.logits(states[0, ends]))
            return found if ends else None

        self.chain = Chain(compute, pool, drawn=config.drawn)
        self._followers: dict[int, Follower] = {}

    @staticmethod
    def memory(model: Model) -> list[Memory]:
        return []

    def observe(self, reading: Reading) -> None:
        """Read prompts while the target does, chunk by chunk; what it generates is read when guesses are made."""
        slots, parts = [], []
        for sequence, row in zip(reading.sequences, reading.rows, strict=True):
            if sequence.slot is None or sequence.left <= 1:
                continue
            follower = self._follow(sequence)
            part = sequence.tokens[follower.slot.length : row.start + row.length]
            if part and follower.slot.length + len(part) <= self.model.config.context:
                slots.append(follower.slot)
                parts.append(part[: self._chunk])
        if slots:
            self.chain.read(slots, parts)

    def propose(self, sequences: Ordered[Sequence]) -> list[Draft]:
        drafts, counts = dict.fromkeys(sequences, NOTHING), {}
        for sequence in sequences:
            # The last guess is never read, so the draft's context may end just before it.
            left = self.model.config.context - len(sequence.tokens) + 1
            count = min(left, room(sequence, self.config.tokens))
            if count > 0:
                counts[sequence] = count
        if not counts:
            return list(drafts.values())
        followers = [self._follow(sequence) for sequence in counts]
        slots, parts = [follower.slot for follower in followers], [self._unread(follower) for follower in followers]
        pool = self.chain.pool

        def remember() -> None:
            for slot in slots:
                pool.snapshot(slot)

        guessed = self.chain.guess(list(counts), slots, parts, list(counts.values()), remember)
        for follower, draft in zip(followers, guessed, strict=True):
            follower.guesses = draft.tokens[:-1]
            if pool.stateful:
                pool.truncate(follower.slot, len(follower.sequence.tokens))
                follower.slot.snapshots.clear()
                follower.guesses = ()
        drafts |= zip(counts, guessed, strict=True)
        return list(drafts.values())

    def sweep(self) -> None:
        gone = [id for id, follower in self._followers.items() if follower.sequence.slot is None]
        for id in gone:
            self.chain.pool.close(self._followers.pop(id).slot)

    def _follow(self, sequence: Sequence) -> Follower:
        """Return a sequence's follower, without guesses that have failed since."""
        follower = self._followers.get(sequence.id)
        if follower is None:
            slot = self.chain.pool.open(min(sequence.last - 1, self.model.config.context))
            follower = self._followers[sequence.id] = Follower(sequence, slot)
        if follower.guesses:
            before = follower.slot.length - len(follower.guesses)
            pairs = list(zip(follower.guesses, sequence.tokens[before:], strict=False))
            right = next((at for at, (guess, true) in enumerate(pairs) if guess != true), len(pairs))
            self.chain.pool.truncate(follower.slot, before + right)
            follower.guesses = ()
        return follower

    def _unread(self, follower: Follower) -> list[int]:
        """Return the tokens that the draft has to read before it guesses, after reading all but a chunk of them."""
        slot, tokens = follower.slot, follower.sequence.tokens
        if slot.length >= len(tokens):  # no token came since: the last one is read again, after a state all of them
            self.chain.pool.truncate(slot, 0 if self.chain.pool.stateful else len(tokens) - 1)
        while len(tokens) - slot.length > self._chunk:
            self.chain.read([slot], [tokens[slot.length : slot.length + self._chunk]])
        return tokens[slot.length :]


def _load(config: DraftModel.Config, llm: Served) -> Model:
    """Read the draft and make sure that its tokens are the target's."""
    if config.dtype is not None and config.dtype not in DTYPES:
        raise UsageError(f"the draft's dtype {config.dtype!r} is not known: use one of {', '.join(DTYPES)}")
    path, dtype = find(config.model), None if config.dtype is None else DTYPES[config.dtype]
    tokenizer = None
    if is_gguf(path):
        model = load_gguf(path, dtype or torch.float32).model
    else:
        model = load_model(path, dtype)
        tokenizer = Tokenizer.load(path) if (path / "tokenizer.json").is_file() else None
    vocab = llm.model.config.vocab
    if model.config.vocab != vocab:
        raise UsageError(f"the draft {path} has {model.config.vocab} tokens, the model that it guesses for has {vocab}")
    if tokenizer is not None and llm.tokenizer is not None and tokenizer.to_json() != llm.tokenizer.to_json():
        raise UsageError(f"the draft {path} has another tokenizer than the model that it guesses for")
    if model.config.encoder is not None or model.head is None:
        raise UsageError(f"the draft {path} must be a decoder with a head")
    return model.to(llm.model.device).eval()
