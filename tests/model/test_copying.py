"""Why attention came: encoder-decoders learn to copy, and what one vector holds of a source shrinks with its length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.model.config import ModelConfig
from hanok.model.model import Model

SYMBOLS = 16  # of which 0 is never used and 1 starts a copy
ARMS: dict[str, dict[str, Any]] = {
    "none": {"name": "seq2seq", "cross": "none"},
    "fixed": {"name": "seq2seq", "cross": "fixed"},
    "additive": {"name": "seq2seq", "cross": "additive"},
    "attention": {"name": "seq2seq", "cross": "attention"},
    "transformer": {"name": "transformer", "heads": 4},
}

pytestmark = pytest.mark.slow


def draw(count: int, length: int, symbols: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random sources (count, length) and what a decoder reads while it writes them out again."""
    source = torch.randint(2, symbols, (count, length), generator=generator)
    return source, torch.cat((torch.ones(count, 1, dtype=torch.int64), source[:, :-1]), 1)


def learn_to_copy(model: Model, *, longest: int, steps: int, rate: float = 1e-2, batch: int = 32) -> list[float]:
    """Train on copies of random strings of 1 to `longest` symbols and return the losses (nats per symbol)."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, (steps - step) / (0.3 * steps))
        length = int(torch.randint(1, longest + 1, (), generator=generator))
        source, tokens = draw(batch, length, model.config.vocab, generator)
        loss = F.cross_entropy(model(tokens, source=source).flatten(0, 1), source.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def copied(model: Model, lengths: Sequence[int], *, count: int = 128) -> dict[int, float]:
    """Return for each length the share of symbols that the model, given those before, copies right."""
    found = {}
    for length in lengths:
        source, tokens = draw(count, length, model.config.vocab, torch.Generator().manual_seed(length))
        found[length] = (model(tokens, source=source).argmax(-1) == source).float().mean().item()
    return found


def race(arm: str, *, dim: int, longest: int, steps: int) -> tuple[list[float], dict[int, float]]:
    dials = dict(ARMS[arm])
    config = ModelConfig.preset(dials.pop("name"), vocab=SYMBOLS, dim=dim, depth=2, **dials)
    model = Model(config, seed=0)
    losses = learn_to_copy(model, longest=longest, steps=steps)
    return losses, copied(model, (1, 2, longest // 2, longest))


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[list[float], dict[int, float]]]:
    torch.set_num_threads(1)
    return {arm: race(arm, dim=32, longest=8, steps=200) for arm in ARMS}


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "none"])
def test_the_loss_falls(measured: dict[str, tuple[list[float], dict[int, float]]], arm: str) -> None:
    losses = measured[arm][0]
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20]), "copies must be learned"


def test_who_does_not_see_the_source_cannot_copy(measured: dict[str, tuple[list[float], dict[int, float]]]) -> None:
    assert max(measured["none"][1].values()) < 0.2, "one symbol in fourteen is right by chance"


def test_one_vector_is_a_bottleneck_and_attention_removes_it(
    measured: dict[str, tuple[list[float], dict[int, float]]],
) -> None:
    fixed, additive, product = (measured[arm][1] for arm in ("fixed", "additive", "attention"))
    assert fixed[1] > 0.9 and fixed[8] < 0.5, "short sources fit into the vector, long ones do not"
    for attending in (additive, product):
        assert attending[1] > 0.9 and attending[8] > 0.75 and attending[8] > fixed[8] + 0.3
