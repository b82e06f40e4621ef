"""Multi-token prediction: modules behind the stack that predict further ahead than the next token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.model.block import Block
from hanok.model.config import ModelConfig
from hanok.nn.context import Context, Memory
from hanok.nn.linear import Linear
from hanok.nn.norm import NORMS
from hanok.nn.router.base import Router


class Ahead(nn.Module):
    """One module: what the token in between was, added to what was known before it, and one block over the past.

    h^k_i = norm(Block(W [norm_e(embed(t_{i+k})); norm_h(h^{k-1}_i)])), with h^0 the stack's last, normalised states;
    head(h^k_i) predicts t_{i+k+1} (DeepSeek-AI 2024, arXiv 2412.19437, section 2.2, equations 21 to 23). The paper
    writes the state before the embedding; the order here is that of the published weights.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        assert config.mtp is not None and config.mtp.layer is not None
        template = config.layers[config.mtp.layer]
        norm = config.norm or template.norm
        self.token_norm, self.state_norm, self.norm = (NORMS[norm.kind](norm, config.dim) for _ in range(3))
        self.proj = Linear(2 * config.dim, config.dim)
        self.block = Block(template, config.dim, layer)

    def forward(self, hidden: Tensor, embedded: Tensor, ctx: Context) -> Tensor:
        both = torch.cat((self.token_norm(embedded), self.state_norm(hidden)), -1)
        out: Tensor = self.norm(self.block(self.proj(both), ctx))
        return out


class MTP(nn.ModuleDict):
    """The modules by the layer numbers that they have, which go on where the stack's end: depth, depth + 1, ...

    A program that keeps the past gives their memories places behind the stack's. The next token is predicted without
    them: their products count neither as FLOPs nor as active parameters.
    """

    def __init__(self, config: ModelConfig) -> None:
        assert config.mtp is not None
        self.first = config.depth
        layers = range(config.depth, config.depth + config.mtp.depth)
        super().__init__({str(layer): Ahead(config, layer) for layer in layers})
        for module in self.modules():
            if isinstance(module, Linear | Router):
                module.active = 0

    def forward(self, hidden: Tensor, embedded: Tensor, ctx: Context, depth: int) -> Tensor:
        """Return h^depth (B,T,dim) of h^{depth-1} and the embeddings of the tokens `depth` places on."""
        if not 1 <= depth <= len(self):
            raise UsageError(f"this model predicts up to {len(self)} tokens further ahead, not {depth}")
        out: Tensor = self[str(self.first + depth - 1)](hidden, embedded, ctx)
        return out

    def memory(self) -> list[Memory]:
        """Return what each module keeps of the past."""
        return [module.block.memory() for module in self.values()]  # type: ignore[union-attr, operator]


def shifted(x: Tensor, places: int, fill: int = 0) -> Tensor:
    """Return x (B,T) moved to the left, with what comes after the end filled in."""
    moved = torch.full_like(x, fill)
    moved[:, : x.shape[1] - places] = x[:, places:]
    return moved
