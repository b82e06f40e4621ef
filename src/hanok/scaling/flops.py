"""Chinchilla's FLOP count per sequence, against the rule of thumb 6 N D."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A transformer as Chinchilla's Table A4 lists it."""

    layers: int
    dim: int
    ffn: int
    heads: int
    head_dim: int
    vocab: int = 32000

    @property
    def params(self) -> int:
        """Count parameters with the Transformer-XL relative projection, the way that reproduces the table."""
        inner = self.heads * self.head_dim
        return self.layers * (5 * self.dim * inner + 2 * self.dim * self.ffn) + self.vocab * self.dim


def training_flops(shape: Shape, sequence: int = 2048) -> float:
    """Return forward plus backward FLOPs per sequence, without the vocabulary.

    Appendix F's text adds the embedding and logit terms, but its own Table A4 comes out only without them.
    """
    s, d, inner = sequence, shape.dim, shape.heads * shape.head_dim
    attention = 6 * s * d * inner + 2 * s**2 * inner + 3 * shape.heads * s**2 + 2 * s**2 * inner + 2 * s * inner * d
    dense = 4 * s * d * shape.ffn
    return 3.0 * shape.layers * (attention + dense)


def ratio_to_rule(shape: Shape, sequence: int = 2048) -> float:
    """Return the exact count over 6 N D."""
    return training_flops(shape, sequence) / (6.0 * shape.params * sequence)
