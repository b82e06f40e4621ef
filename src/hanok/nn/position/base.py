"""What a position scheme may do: add to embeddings, turn queries and keys, or add to scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanok.ops.attention import Bias


def reach(positions: Tensor) -> int:
    """Return one more than the largest position.

    Compiled code cannot wait for a number: it takes the length, below which its caller has found all positions to lie.
    """
    if torch.compiler.is_compiling():
        return positions.shape[-1]
    return int(positions.max()) + 1 if positions.numel() else 1


class Position(nn.Module):
    """A scheme that does nothing at all three places; each kind overrides the place where it acts.

    Built as `Scheme(config, width, heads)`: at the embedding `width` is the model's and `heads` 1, in a mixer they are
    the head's size and the query heads. `shared` schemes are built once for a stack of layers.
    """

    shared = False

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return embeddings x (B,T,width) that know their positions (B,T)."""
        return x

    def forward(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (B,T,H,width) and keys (B,T,G,width) that know their positions (B,T)."""
        return q, k

    def bias(self) -> Bias | None:
        """Return what is added to scores: distances (query minus key position) -> (heads, *shape); None for nothing."""
        return None
