"""The two probes: what was the value of a key seen k tokens ago, and a list of symbols again, or backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hanok.core.rng import derive
from hanok.recipes.lineage.given import rows
from hanok.text.batch import Batch

KEYS = VALUES = FILLERS = 16
PAIRS = 4
SYMBOLS = 16
COPY, REVERSE, ANSWER = SYMBOLS, SYMBOLS + 1, SYMBOLS + 2
DISTANCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS = (1, 2, 4, 6, 8, 12, 16, 24)
TRAINED_DISTANCE, TRAINED_LENGTH = 32, 12  # the longest that training shows; what is tested beyond is extrapolation

BATCH = 64
Probe = Literal["recall", "copy"]
PROBES: tuple[Probe, ...] = ("recall", "copy")
VOCAB: dict[Probe, int] = {"recall": KEYS + VALUES + FILLERS, "copy": SYMBOLS + 3}
CONTEXT: dict[Probe, int] = {"recall": 2 * PAIRS + max(DISTANCES) + 2 * PAIRS, "copy": 2 * max(LENGTHS) + 2}
CHANCE: dict[Probe, float] = {"recall": 1 / VALUES, "copy": 1 / SYMBOLS}


def recall(n: int, distance: int, later: int, draw: torch.Generator, *, asked: int = 1, split: bool = False) -> Batch:
    """Return n rows `key value key value ... filler ... key?`, whose first answer lies `distance` tokens back.

    `later` pairs stand between that value and the fillers. Keys differ within a row; values and fillers are drawn
    freely. Further questions follow with their answers. Only answers carry weight. With `split` the questions are for
    the decoder, all before for the encoder.
    """
    keys = torch.rand(n, KEYS, generator=draw).argsort(1)[:, :PAIRS]
    values = torch.randint(KEYS, KEYS + VALUES, (n, PAIRS), generator=draw)
    fillers = torch.randint(KEYS + VALUES, VOCAB["recall"], (n, distance - 1 - 2 * later), generator=draw)
    first = PAIRS - 1 - later
    order = [first, *(i for i in torch.randperm(PAIRS, generator=draw).tolist() if i != first)][:asked]
    shown = torch.cat((_side_by_side(keys, values), fillers), 1)
    spoken = _side_by_side(keys[:, order], values[:, order])
    return _after(shown, spoken[:, :-1], spoken[:, 1:], torch.arange(2 * asked - 1) % 2 == 0, split)


def transduce(n: int, length: int, word: int, draw: torch.Generator, *, split: bool = False) -> Batch:
    """Return n rows `word symbols ANSWER symbols`, to be said again (COPY) or backwards (REVERSE)."""
    symbols = torch.randint(0, SYMBOLS, (n, length), generator=draw)
    answer = symbols.flip(1) if word == REVERSE else symbols
    shown = torch.cat((torch.full((n, 1), word), symbols), 1)
    spoken = torch.cat((torch.full((n, 1), ANSWER), answer), 1)
    return _after(shown, spoken[:, :-1], spoken[:, 1:], torch.ones(length, dtype=torch.bool), split)


@dataclass
class ProbeStream:
    """Training batches of a probe without end; batch i depends on the seed and i alone; its rows have one length."""

    probe: Probe
    batch: int
    seed: int
    split: bool
    step: int = 0

    def next_batch(self) -> Batch:
        """Return the next batch."""
        draw = torch.Generator().manual_seed(derive(self.seed, f"{self.probe}/{self.step}"))
        self.step += 1
        if self.probe == "recall":
            # Uniform in the logarithm, so that short distances are learned first and long ones are not rare.
            reach = TRAINED_DISTANCE - 2 * (PAIRS - 1)
            distance = int(reach ** float(torch.rand((), generator=draw)) + 0.5)
            later = int(torch.randint(0, places(distance), (), generator=draw))
            return recall(self.batch, distance, later, draw, asked=PAIRS, split=self.split)
        length = int(torch.randint(1, TRAINED_LENGTH + 1, (), generator=draw))
        word = COPY if torch.rand((), generator=draw) < 0.5 else REVERSE
        return transduce(self.batch, length, word, draw, split=self.split)

    def state(self) -> dict[str, Any]:
        """Return the number of the next batch."""
        return {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a batch."""
        self.step = int(state["step"])


def questions(probe: Probe, n: int, seed: int, *, split: bool) -> list[tuple[str, int, list[Batch]]]:
    """Return (what, distance or length, about n questions) that no training batch holds but by chance.

    At every distance the pair asked about stands equally often in every place that the distance allows.
    """
    draw = torch.Generator().manual_seed(derive(seed, f"{probe}/test"))
    if probe == "recall":
        return [
            ("recall", k, [recall(n // places(k), k, later, draw, split=split) for later in range(places(k))])
            for k in DISTANCES
        ]
    words: Sequence[tuple[str, int]] = (("copy", COPY), ("reverse", REVERSE))
    return [(name, k, [transduce(n, k, word, draw, split=split)]) for name, word in words for k in LENGTHS]


def places(distance: int) -> int:
    """Return in how many places a pair can stand whose value lies so far back."""
    return min(PAIRS, (distance + 1) // 2)


def _after(shown: Tensor, tokens: Tensor, targets: Tensor, counts: Tensor, split: bool) -> Batch:
    """Return rows that continue (or, split, are given) what was shown; targets count where `counts` (T,) says so."""
    weights = counts.float().expand(tokens.shape).contiguous()
    if split:
        return rows(tokens, targets, weights, shown)
    whole = torch.cat((shown, tokens), 1)
    ignored = shown.shape[1]
    return rows(
        whole,
        torch.cat((whole[:, 1 : ignored + 1], targets), 1),
        torch.cat((torch.zeros(shown.shape), weights), 1),
    )


def _side_by_side(keys: Tensor, values: Tensor) -> Tensor:
    return torch.stack((keys, values), -1).flatten(1)
