"""The one model class: training, scoring and serving call this same forward."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.model.block import Block
from hanok.model.config import ModelConfig
from hanok.model.init import initialise
from hanok.nn.context import Context, Dense, Memory
from hanok.nn.linear import Linear
from hanok.nn.norm import NORMS


class Model(nn.Module):
    """A stack of blocks between an embedding and a head; what differs between architectures is in the config.

    `model(tokens)` takes whole sequences, tokens (B,T) int64 -> logits (B,T,V). A program that holds memories passes
    its own context.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.config = config
        with torch.device(device):
            self.embed = nn.Embedding(config.vocab, config.dim)
            try:
                self.blocks = nn.ModuleList(Block(config.block(i), config.dim, i) for i in range(config.depth))
            except ValueError as error:
                raise UsageError(f"this model cannot be built: {error}") from None
            self.norm = NORMS[config.norm.kind](config.norm, config.dim)
            self.head = Linear(config.dim, config.vocab)
        if config.embeddings == "tied":
            self.head.weight = self.embed.weight
        if torch.device(device).type != "meta":
            initialise(self, seed)

    def forward(self, tokens: Tensor, ctx: Context | None = None) -> Tensor:
        logits: Tensor = self.head(self.hidden(tokens, ctx))
        return logits

    def hidden(self, tokens: Tensor, ctx: Context | None = None) -> Tensor:
        """Return the normalised last hidden states (B,T,dim), of which `head` makes logits."""
        context = Dense(tokens) if ctx is None else ctx
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, context)
        out: Tensor = self.norm(x)
        return out

    def memory(self) -> list[Memory]:
        """Return what each layer keeps of the past."""
        return [cast(Block, block).memory() for block in self.blocks]

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype that activations have."""
        return self.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.embed.weight.device
