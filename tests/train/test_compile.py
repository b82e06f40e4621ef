"""Compiled forms: the model's own numbers and gradients, in one graph, and nothing of it where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.ops.numerics import numerics
from hanok.text.batch import Batch
from hanok.train.compile import Compiled
from hanok.train.hook.utilisation import Utilisation
from hanok.train.loop import LoopConfig, computing
from hanok.train.objective.clm import NextToken

PRESETS = ["llama-tiny", "gpt-tiny"]


def build(preset: str) -> Model:
    return Model(ModelConfig.preset(preset, vocab=61, dim=32, depth=2, heads=4))


def batch_of(segments: bool) -> Batch:
    tokens = torch.randint(0, 61, (3, 40))
    positions = torch.arange(40).expand(3, 40).contiguous()
    parts = torch.zeros(3, 40, dtype=torch.int64)
    parts[:, 17:] = 1
    positions[:, 17:] -= 17
    weights = torch.ones(3, 40)
    weights[1, :30] = 0
    whole = torch.arange(40).expand(3, 40).contiguous()
    return Batch(tokens, tokens.roll(-1, 1), weights, positions if segments else whole, parts if segments else None)


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it does itself while it traces
@pytest.mark.parametrize(
    ("preset", "segments"),
    [
        pytest.param(preset, packed, marks=[] if at and not packed else [pytest.mark.slow])
        for at, preset in enumerate(PRESETS)
        for packed in (False, True)
    ],
    ids=str,
)
def test_losses_and_gradients_are_the_models_own_in_one_graph(preset: str, segments: bool) -> None:
    model, batch = build(preset), batch_of(segments)
    objective = NextToken(NextToken.Config())
    found: list[tuple[float, list[Any]]] = []
    counters.clear()
    for policy in (model, Compiled(model, backend="aot_eager")):
        loss, _ = objective(policy, batch)
        found.append((float(loss.detach()), list(torch.autograd.grad(loss, list(model.parameters())))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert not counters["graph_break"], dict(counters["graph_break"])


def test_what_does_not_fit_the_graph_is_the_models_own() -> None:
    model = build("llama-tiny")
    policy = Compiled(model, backend="aot_eager")
    policy._whole = None  # type: ignore[assignment]  # whoever took the graph would fail
    tokens = torch.randint(0, 61, (2, 9))
    late = Dense(tokens, torch.arange(100, 109).expand(2, 9))
    assert torch.equal(policy.hidden(tokens, late), model.hidden(tokens, late))
    with numerics("exact"):
        assert torch.equal(policy.hidden(tokens), model.hidden(tokens))
    assert policy.config is model.config


def test_exact_numerics_refuse_it() -> None:
    with pytest.raises(UsageError, match="compile"), computing(LoopConfig(numerics="exact", compile="model")):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_compiler_of_this_machine_agrees() -> None:
    model, batch = build("llama-tiny"), batch_of(False)
    policy = Compiled(model)
    torch.testing.assert_close(policy.hidden(batch.tokens), model.hidden(batch.tokens), rtol=1e-4, atol=1e-5)


def test_utilisation_is_the_share_of_the_peak() -> None:
    record = {"tokens_per_second": 50.0}
    Utilisation(flops_per_token=300.0, peak=60_000.0).after_step(None, record)  # type: ignore[arg-type]
    assert record["mfu"] == 0.25
