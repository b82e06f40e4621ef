"""Early exit: a token whose next one is sure already after a few layers is computed no further."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.model.block import Block
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Context, Dense
from hanok.nn.linear import Linear

Measure = Literal["top1", "margin"]


class ExitConfig(Config):
    """After how many `layers` a token may exit, and when: if its confidence is above `threshold`.

    `measure` top1 is the largest probability, margin the largest minus the second (CALM's softmax response).
    Neither is ever above 1, so that a threshold of 1 is the full model.
    """

    layers: tuple[int, ...]
    threshold: float = pydantic.Field(default=0.9, ge=0, le=1)
    measure: Measure = "top1"


class EarlyExit(Model):
    """A model over the same tensors in which tokens leave early (Schuster et al. 2022, CALM, arXiv 2207.07061).

    After layer l of `plan.layers`, c = confidence(softmax(head(norm(x_l)))); a token with c > threshold keeps its x_l
    in all later layers, and head(norm(x_l)) are its logits. Every exit uses the model's own norm and head (Elhoushi et
    al. 2024, LayerSkip, arXiv 2404.16710). Later tokens still ask later layers for its keys and values, or for a state
    that has read it: these are made of x_l (as CALM does), by running the later mixers on it and leaving out what
    they return. So a token depends on itself and on earlier tokens alone, and whole sequences, chunks and single tokens
    give the same. What is saved is feed-forward networks; what it costs is one head per exit.

    An engine serves it like any model. `used` counts tokens by how many layers they used, prompts too.
    """

    def __init__(self, model: Model, plan: ExitConfig) -> None:
        nn.Module.__init__(self)
        _check(model.config, plan.layers)
        if model.head is None:
            raise UsageError("early exit needs a head: this model gives hidden states")
        if any(cast(Block, block).depths is not None for block in model.blocks):
            raise UsageError("early exit and a mixture of depths both pass layers by: use one of them")
        self.__dict__.update(model.__dict__ | {"_modules": dict(model._modules)})  # the same parts, no copies
        self.plan = plan
        self.used: Counter[int] = Counter()

    def hidden(self, tokens: Tensor, ctx: Context | None = None, *, source: Tensor | None = None) -> Tensor:
        """Return the normalised states (B,T,dim) with which each token exits."""
        if ctx is None:
            ctx = Dense(tokens, source=None if source is None else self.encode(source))
        states, layers = self.run(tokens, ctx)
        self.used.update(layers.flatten().tolist())
        return states

    def run(self, tokens: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return the states (B,T,dim) with which tokens exit, and how many layers each used (B,T)."""
        x = embedded = self.embed(tokens, ctx.positions)
        used = torch.full_like(tokens, self.config.depth)
        active: Tensor | None = None  # None: all, and then no bit differs from the full model's
        for layer in range(1, len(self.blocks) + 1):
            y = self.layer(layer - 1, x, embedded, ctx, active)
            x = y if active is None else torch.where(active[..., None], y, x)
            if layer in self.plan.layers:
                left = self._sure(x, active)
                if left.any():
                    used = used.masked_fill(left, layer)
                    active = ~left if active is None else active & ~left
        return x if self.norm is None else self.norm(x), used

    def _sure(self, x: Tensor, active: Tensor | None) -> Tensor:
        """Return which of the active tokens (B,T) are sure enough to leave."""
        shape, flat = x.shape[:2], x.flatten(0, 1)
        places = torch.arange(len(flat), device=x.device) if active is None else active.flatten().nonzero()[:, 0]
        states = flat.index_select(0, places)[None]
        logits = self.logits(states if self.norm is None else self.norm(states))[0]
        sure = confidence(logits, self.plan.measure) > self.plan.threshold
        return torch.zeros(len(flat), dtype=torch.bool, device=x.device).index_copy(0, places, sure).view(shape)


@dataclass(frozen=True)
class Agreement:
    """What a plan does on given text, each token after its true past: layers used, and the full model's choice kept.

    `flops` is the share of the products with weights that is left, exits' heads included.
    """

    layers: float
    agreement: float
    flops: float


@torch.no_grad()
def compare(model: Model, plan: ExitConfig, tokens: Tensor) -> Agreement:
    """Run both models over tokens (B,T)."""
    early, full = EarlyExit(model, plan), model(tokens)
    states, used = early.run(tokens, Dense(tokens))
    same = early.logits(states).argmax(-1) == full.argmax(-1)
    return Agreement(used.float().mean().item(), same.float().mean().item(), flops_left(model, plan, used))


def flops_left(model: Model, plan: ExitConfig, used: Tensor) -> float:
    """Return the FLOPs of products with weights of tokens that used so many layers, by those of the full model."""
    blocks = [cast(Block, block) for block in model.blocks]
    ffns = [_flops(block.ffn) if block.ffn is not None else 0.0 for block in blocks]
    head = _flops(model.transform) + _flops(model.head)
    whole = sum(_flops(block) for block in blocks) + head
    spent = torch.full(used.shape, whole, dtype=torch.float64)
    for layer, ffn in enumerate(ffns, 1):
        spent -= (used.cpu() < layer) * ffn
    for layer in plan.layers:
        spent += (used.cpu() > layer) * head  # a head that did not let the token go; the one that did is its last
    return spent.mean().item() / whole


def states(model: Model, tokens: Tensor, ctx: Context, layers: Sequence[int]) -> list[Tensor]:
    """Return the normalised states (B,T,dim) after each of some layers, in the order of the stack."""
    embedded: Tensor = model.embed(tokens, ctx.positions)
    x, found = embedded, []
    for layer in range(1, max(layers, default=0) + 1):
        x = model.layer(layer - 1, x, embedded, ctx)
        if layer in layers:
            found.append(x if model.norm is None else model.norm(x))
    return found


def confidence(logits: Tensor, measure: Measure = "top1") -> Tensor:
    """Return how sure logits (..., V) are of their best token, from 0 to 1."""
    probs = torch.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1)
    if measure == "top1":
        return probs.amax(-1)
    best = probs.topk(2, -1).values
    return best[..., 0] - best[..., 1]


def _check(config: ModelConfig, layers: Sequence[int]) -> None:
    wrong = [layer for layer in layers if not 0 < layer < config.depth]
    if wrong or not layers:
        raise UsageError(f"exits lie after layers 1 to {config.depth - 1} of this model, not after {wrong or 'none'}")


def _flops(module: nn.Module | None) -> float:
    linears = [] if module is None else [part for part in module.modules() if isinstance(part, Linear)]
    return float(sum(2 * linear.active * linear.inputs * linear.outputs for linear in linears))
