"""Which guesses stand: the rule under which guessing changes how long a text takes and nothing else about it."""

from __future__ import annotations

import random
from collections.abc import Sequence as Ordered

import torch
from torch import Tensor

from hanok.engine.choose import invert, narrow
from hanok.engine.processor import Place
from hanok.engine.sequence import Sequence


def accept(logits_NV: Tensor, places: Ordered[Place], tokens_N: Tensor, uniforms: Ordered[float]) -> Tensor:
    """Return one token per place (N,), where `tokens_N` is what was drawn there without looking at any guess.

    A sequence's tokens hold up to the first that differs from the guess at its place; that one stands too, as it was
    drawn after a true past. For a guess x that follows from the text (a point mass), the draw t ~ p itself is right:
    it equals x with probability p(x), and is p without x otherwise. So greedy texts, and with a seed drawn texts too,
    are those of an engine that never guesses. A guess x ~ q that was drawn stands with probability
    min(1, p(x) / q(x)); else t ~ max(0, p - q) / sum(max(0, p - q)), and t ~ p again (Leviathan et al. 2023, arXiv
    2211.17192; Chen et al. 2023, arXiv 2302.01318). p is the processed and narrowed distribution.
    """
    drawn = [at for at, place in enumerate(places) if _shares(place) is not None]
    if not drawn:
        return tokens_N
    rows = torch.tensor(drawn, device=logits_NV.device)
    chosen = [places[at] for at in drawn]
    p = narrow(logits_NV[rows].double(), [place.sequence.request for place in chosen]).softmax(-1)
    q = torch.stack([share for place in chosen if (share := _shares(place)) is not None])
    guess = torch.tensor([[place.sequence.draft.tokens[len(place.drafted)]] for place in chosen], device=rows.device)
    coins = torch.tensor([[coin(place, "accept")] for place in chosen], dtype=torch.float64, device=rows.device)
    left = (p - q).clamp(min=0)
    # Nothing is left where p and q are equal: rounding must not make a rejection of that.
    stands = (coins * q.gather(-1, guess) < p.gather(-1, guess)) | (left.sum(-1, keepdim=True) == 0)
    uniform = torch.tensor([[uniforms[at]] for at in drawn], dtype=torch.float64, device=rows.device)
    return tokens_N.index_copy(0, rows, torch.where(stands[:, 0], guess[:, 0], invert(left, uniform)))


def coin(place: Place, what: str) -> float:
    """Return a random number in [0, 1) that depends on the request's seed, the place and its use alone.

    A guess that is made again at the same place, after another past, may use it again: nothing before the place has
    seen it. So what else runs, and how a step was cut, changes nothing.
    """
    sequence = place.sequence
    at = len(sequence.tokens) + len(place.drafted)
    return random.Random(f"{sequence.seed} {at} {what}").random()


def taken(sequence: Sequence, tokens: Ordered[int]) -> int:
    """Return how many of a sequence's tokens, one for each place of its step, follow from a true past."""
    guesses = sequence.draft.tokens
    for at, token in enumerate(tokens):
        if at >= len(guesses) or token != guesses[at]:
            return at + 1
    return len(tokens)


def _shares(place: Place) -> Tensor | None:
    """Return the distribution (V,) from which the guess at a place was drawn, if there is one and it was."""
    draft, at = place.sequence.draft, len(place.drafted)
    return draft.shares[at] if draft.shares is not None and at < len(draft.tokens) else None
