"""What a contestant costs: weights, memory per token and per sequence, and tokens per second when it writes."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.model.model import Model
from hanok.model.size import count_model
from hanok.model.weights import TokenIds
from hanok.nn.context import Dense, Make, Read, Source

BYTES = 2  # of a number of the cache, in bfloat16; states are kept in float32
WRITTEN = 32  # tokens of one answer while decoding is timed
SEQUENCES = 4


class _Kept(Dense):
    """Counts the numbers that cross-attention keeps of a source."""

    numbers = 0

    def look(self, layer: int, x: Tensor, make: Make, read: Read) -> Tensor:
        assert self.source is not None
        self.numbers += sum(made.numel() for made in make(self.source.states))
        return super().look(layer, x, make, read)


def costs(model: Model) -> dict[str, Any]:
    """Return weights (the body is what is neither embedding nor head), and bytes of memory while it writes."""
    size, table = count_model(model), model.embed.weight.numel()
    table *= 1 if model.config.embeddings == "tied" else 2
    source = source_numbers(model)
    return {
        "parameters": size.params,
        "parameters_active": size.params_active,
        "parameters_body": size.params - table,
        "parameters_body_active": size.params_active - table,
        "bytes_per_token": BYTES * size.cache_numbers,
        "bytes_per_sequence": size.state_bytes + BYTES * source[1],
        "bytes_per_source_token": BYTES * source[0],
    }


@torch.no_grad()
def source_numbers(model: Model) -> tuple[int, int]:
    """Return how many numbers a decoder keeps for each token of its source, and however long that is."""
    if model.encoder is None:
        return 0, 0
    kept = []
    for length in (8, 16):
        tokens = torch.zeros(1, 1, dtype=torch.int64)
        states = torch.zeros(1, length, model.config.dim, dtype=model.dtype)
        ctx = _Kept(tokens, source=Source(states, torch.ones(1, length, dtype=torch.bool)))
        model.hidden(tokens, ctx)
        kept.append(ctx.numbers)
    each = (kept[1] - kept[0]) // 8
    return each, kept[0] - 8 * each


def decoding_speed(model: Model, held: Tensor) -> float:
    """Return tokens per second of greedy answers to half a window, one sequence at a time, in the engine."""
    half = held.shape[1] // 2
    engine = Engine(LLM(model, ids=TokenIds(bos=0)), numerics="fast")
    times = []
    for row in held[: SEQUENCES + 1]:
        request = Request(row[:half].tolist(), WRITTEN, temperature=0.0, ignore_eos=True)
        started = time.perf_counter()
        written = engine.generate([request])[0].tokens
        times.append((time.perf_counter() - started) / len(written))
    return 1 / sorted(times[1:])[len(times[1:]) // 2]
