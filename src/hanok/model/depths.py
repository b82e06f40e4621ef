"""Mixture of depths: a router lets a share of the tokens through a block, the others pass it by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.nn.context import Context, Make, Memory, PerSequence, Read, Recurrence
from hanok.nn.router.tally import current
from hanok.ops.attention import PLAIN, Scoring
from hanok.ops.matmul import linear

if TYPE_CHECKING:
    from hanok.model.model import Model

FLAG = 128.0  # scores of keys that are not there are FLAG^2 lower: their weights are exact zeros in every dtype
COLUMNS = 4  # of which one is used: keys stay on the grid of the vectors that exact products are made of
STATE = "a recurrent state cannot pass a token by; choose depths.over = 'ffn'"
Layer = Callable[[Tensor, Context], Tensor]


class DepthsConfig(Config):
    """`share` of the tokens pass `over` the block, or over its feed-forward network alone.

    choice topk: the share of each sequence that scores highest, which depends on later tokens of the sequence too: for
    training and whole sequences, and refused token by token. choice threshold: a token by its own state alone, as the
    predictor has learned it from topk; on average about the share. `causal` turns the one into the other.
    """

    share: float = pydantic.Field(default=0.125, gt=0, le=1)
    choice: Literal["topk", "threshold"] = "topk"
    over: Literal["block", "ffn"] = "block"


class Depths(nn.Module):
    """x_i + r_i (block(X)_i - x_i) for chosen tokens, x_i for others; r_i = w . x_i, and X the chosen tokens alone.

    Tokens that are not chosen are no keys in the block's attention either (Raposo et al. 2024, arXiv 2404.02258,
    equation 1). topk chooses the k = share * T largest r of each sequence; where a row holds several (packing), or
    padding, they compete. The predictor p_i = v . sg(x_i) + c learns by cross-entropy whether i is among them, and
    changes nothing else, since no gradient goes on to x (section 3.5); threshold chooses p_i > 0. It is a linear one
    here, not a small network: r is linear itself, and only its quantile has to be learned.

    Products with weights are computed for chosen tokens alone. Scores are computed for all and masked, so that the
    time of attention itself is not saved; keys hold four numbers more, of which one says whether they were chosen.
    """

    def __init__(self, config: DepthsConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(1, dim))
        self.predictor = nn.Parameter(torch.empty(1, dim))
        self.bias = nn.Parameter(torch.empty(1))

    def reset(self, generator: torch.Generator) -> None:
        """Draw the router, and start the predictor at an equal chance for each token."""
        with torch.no_grad():
            size = self.weight.shape
            self.weight.copy_(torch.empty(size).normal_(0.0, size[1] ** -0.5, generator=generator))
        nn.init.zeros_(self.predictor)
        nn.init.zeros_(self.bias)

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return r (B,T) of states x (B,T,dim), and which of them are chosen (B,T)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        score = linear(wide, self.weight.to(wide.dtype))[..., 0]
        logit = linear(wide.detach(), self.predictor.to(wide.dtype), self.bias.to(wide.dtype))[..., 0]
        tally, chosen = current(), logit > 0
        if tally is None and self.config.choice == "threshold":
            return score, chosen
        top = highest(score, self.config.share)
        if tally is not None:
            loss = F.binary_cross_entropy_with_logits(logit, top.to(logit.dtype))
            tally.notes.append(("depths/predictor_loss", loss.detach()))
            tally.notes.append(("depths/predictor_accuracy", (chosen == top).to(logit.dtype).mean()))
            tally.terms.append(loss)
        return score, top if self.config.choice == "topk" else chosen

    def forward(self, x: Tensor, ctx: Context, layer: Layer) -> Tensor:
        """Return the residual stream (B,T,dim) after a layer through which chosen tokens pass."""
        score, chosen = self._choose(x, ctx)
        places, flat = chosen.flatten().nonzero()[:, 0], x.flatten(0, 1)
        rows = flat.index_select(0, places)
        after = layer(rows[None], Chosen(ctx, chosen, places))[0]
        gain = score.flatten().index_select(0, places).to(x.dtype)[:, None]
        out: Tensor = flat.index_copy(0, places, rows + gain * (after - rows)).view(x.shape)
        return out

    def branch(self, x: Tensor, ctx: Context, ffn: Callable[[Tensor], Tensor]) -> Tensor:
        """Return r_i ffn(x_i) for chosen tokens and 0 for others."""
        score, chosen = self._choose(x, ctx)
        return on_rows(ffn, x, chosen) * torch.where(chosen, score, 0.0).to(x.dtype)[..., None]

    def memory(self, kept: Memory) -> Memory:
        """Return what a mixer keeps, with room for the columns that say whether a token was chosen."""
        if self.config.over == "ffn":
            return kept
        if isinstance(kept, PerSequence):
            raise ValueError(f"depths: {STATE}")
        return replace(kept, k_dim=kept.k_dim + COLUMNS)

    def _choose(self, x: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        if ctx.keeps and self.config.choice == "topk":
            raise UsageError("depths.choice topk needs whole sequences: hanok.model.depths.causal makes it a threshold")
        return self.choose(x)


class Chosen:
    """A context in which the chosen tokens are all that there is: x is (1,N,dim), from all rows of the batch.

    Keys and queries get a few columns more, whose product is 0 for keys that were chosen and -FLAG^2 for others (after
    scaling), and attention runs in the given context, which may keep them.
    """

    def __init__(self, ctx: Context, chosen: Tensor, places: Tensor) -> None:
        self.keeps, self._ctx, self._chosen, self._places = ctx.keeps, ctx, chosen, places
        self.positions = ctx.positions.flatten().index_select(0, places)[None]

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int | None = None,
        how: Scoring = PLAIN,
    ) -> Tensor:
        if how.softcap is not None:
            raise UsageError("depths: capped scores (softcap) cannot be masked; choose depths.over = 'ffn'")
        flag = torch.where(self._chosen, 0.0, -FLAG / scale).to(k.dtype)[..., None, None]
        keys = torch.cat((self._spread(k), F.pad(flag, (0, COLUMNS - 1)).expand(-1, -1, k.shape[2], -1)), -1)
        queries = F.pad(self._spread(q), (0, COLUMNS), value=FLAG)
        y = self._ctx.attend(layer, queries, keys, self._spread(v), scale=scale, window=window, how=how)
        return y.flatten(0, 1).index_select(0, self._places)[None]

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        raise UsageError(f"depths: {STATE}")

    def look(self, layer: int, x: Tensor, make: Make, read: Read) -> Tensor:
        raise UsageError("depths: a layer that looks at a source cannot be passed by; choose depths.over = 'ffn'")

    def _spread(self, x: Tensor) -> Tensor:
        """Lay rows (1,N,...) out over the whole batch (B,T,...), zeros between them."""
        whole = x.new_zeros(self._chosen.numel(), *x.shape[2:]).index_copy(0, self._places, x[0])
        return whole.view(*self._chosen.shape, *x.shape[2:])


def causal(model: Model) -> Model:
    """Return the same model, with the same tensors, whose mixtures of depths choose by threshold."""
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, kept)
    layers = {}
    for name, block in model.config.layers.items():
        depths = None if block.depths is None else block.depths.model_copy(update={"choice": "threshold"})
        layers[name] = block.model_copy(update={"depths": depths})
    twin.config = model.config.model_copy(update={"layers": layers})
    for module in twin.modules():
        if isinstance(module, Depths):
            module.config = module.config.model_copy(update={"choice": "threshold"})
    return twin


def highest(score: Tensor, share: float) -> Tensor:
    """Return which of the scores (B,T) are among the share * T largest of their row (at least one)."""
    count = max(1, int(score.shape[1] * share))
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, score.topk(count, 1).indices, True)


def on_rows(ffn: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor) -> Tensor:
    """Return ffn(x) (B,T,dim) for the tokens in `rows` (B,T) and zeros for the others, which are not computed."""
    places, flat = rows.flatten().nonzero()[:, 0], x.flatten(0, 1)
    if not len(places):
        return torch.zeros_like(x)
    y = ffn(flat.index_select(0, places)[None])[0]
    whole: Tensor = y.new_zeros(flat.shape).index_copy(0, places, y)
    return whole.view(x.shape)
