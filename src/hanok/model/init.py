"""Starting weights: the scale follows the fan-in, and the residual branches start small."""

from __future__ import annotations

import torch
from torch import nn

from hanok.core.rng import Streams
from hanok.nn.linear import Linear

RESIDUAL = ("o", "down", "out")  # the last projection of a branch writes into the residual stream


def initialise(model: nn.Module, seed: int) -> None:
    """Draw every weight: normal with deviation 1/sqrt(fan-in), branch ends divided by sqrt(2 * depth).

    The division keeps the residual stream's variance level over depth (Radford et al. 2019, GPT-2, section 2.3).
    """
    generator = Streams(seed).torch("init")
    depth = max(1, len(list(model.get_submodule("blocks").children())))
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, Linear):
                deviation = module.inputs**-0.5
                if name.rpartition(".")[2] in RESIDUAL:
                    deviation /= (2 * depth) ** 0.5
                _normal(module.weight, deviation, generator)
            elif hasattr(module, "reset"):  # parts with weights that are no matrices know how they start
                module.reset(generator)
        # Last, so that tied embeddings end with the scale of an embedding whose products are logits.
        embedding = model.get_submodule("embed")
        assert isinstance(embedding, nn.Embedding)
        _normal(embedding.weight, embedding.embedding_dim**-0.5, generator)


def _normal(weight: torch.Tensor, deviation: float, generator: torch.Generator) -> None:
    weight.copy_(torch.empty(weight.shape).normal_(0.0, deviation, generator=generator))
