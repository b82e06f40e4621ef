"""How far back a gradient reaches: in an Elman network, a GRU and an LSTM, at the start and trained on text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.model.model import Model
from hanok.model.weights import load_model
from hanok.nn.context import Dense
from hanok.recipes.lineage.learn import held_out
from hanok.text.tokenizer import Tokenizer

CELLS = ("rnn", "lstm", "gru")


class ReachConfig(Config):
    """How many windows of held-out text, and how many tokens back."""

    windows: int = Field(8, ge=1)
    distance: int = Field(64, ge=2)


def measure_reach(config: ReachConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write reach.json: by network, a gradient's mean norm k tokens back in the first layer, over that at k = 0."""
    tokens = inputs["tokens"]
    held, _ = held_out(tokens, Tokenizer.load(tokens), 64 * 64)
    rows, curves = held[: config.windows, : config.distance + 1], {}
    for name in [cell for cell in CELLS if cell in inputs]:
        trained = load_model(inputs[name])
        for state, model in (("at the start", Model(trained.config)), ("trained", trained)):
            curve = reach(model.double(), rows)
            curves[f"{name}, {state}"] = (curve / curve[0]).tolist()
    atomic_write(out / "reach.json", json.dumps(curves) + "\n")
    return {name: curve[min(32, config.distance)] for name, curve in curves.items()}


def reach(model: Model, tokens: Tensor) -> Tensor:
    """Return the mean norm (T,) of the gradient that a direction of the last output sends back, by distance.

    Taken through the first layer's network alone, without the residual stream that runs past it.
    """
    with torch.no_grad():
        block = model.blocks[0]
        x = block.get_submodule("mixer_norm")(model.embed(tokens, torch.arange(tokens.shape[1]).expand(tokens.shape)))
    x = x.detach().requires_grad_()
    y = block.get_submodule("mixer")(x, Dense(tokens))[:, -1]
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    (grad,) = torch.autograd.grad((y * direction).sum(), x)
    norms: Tensor = grad.norm(dim=-1).mean(0).flip(0)
    return norms


def reach_stage(names: Sequence[str]) -> Stage:
    """Return the stage that looks into these networks."""
    inputs = {"tokens": "tokens"} | dict.fromkeys(names, "lineage")
    return Stage("reach", "lineage-reach", ReachConfig, measure_reach, inputs)
