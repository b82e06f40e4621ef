"""How long the products of a model take on this machine: each shape timed over matrices that no cache still holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from hanok.nn.linear import Linear
from hanok.ops.numerics import numerics
from hanok.recipes.sizing.hollow import Product

RING = 256 << 20  # bytes of different matrices between two visits of one, at most
SECONDS = 0.1  # for each shape
EXPERTS = {"int8": "int8", "int4": "int8"}  # how experts' matrices are stored, by the format of the others


@dataclass(frozen=True)
class Ground:
    """What the products run on: the dtype of the rows, the format of the matrices, the device and the numerics."""

    dtype: torch.dtype
    kind: str = "dense"
    device: str = "cpu"
    numerics: str = "fast"


def seconds_of(products: Iterable[Product], ground: Ground, *, between: int) -> dict[Product, float]:
    """Return the usual seconds of each product, with `between` bytes of other matrices read before it comes again.

    A model reads all its weights in a step, so that a matrix is found in a cache only if the whole model is.
    """
    found = {}
    memory: torch.Tensor | None = None
    for product in sorted(set(products), key=lambda p: (p.inputs, p.outputs, p.rows, p.expert)):
        numbers = product.inputs * product.outputs
        kind = ground.kind if not product.expert else EXPERTS.get(ground.kind, "dense")
        size = numbers * ground.dtype.itemsize
        count = max(1, min(between, RING) // size)
        if kind == "dense":
            if memory is None or memory.numel() < count * numbers:
                memory = torch.ones(count * numbers, dtype=ground.dtype, device=ground.device)
            ring = [_dense(product, memory[at * numbers : (at + 1) * numbers]) for at in range(count)]
        else:
            one = _dense(product, torch.ones(numbers, dtype=ground.dtype, device=ground.device))
            ring = [one.pack(kind) for _ in range(count)]
        found[product] = _timed(ring, product, ground)
    return found


def _dense(product: Product, numbers: torch.Tensor) -> Linear:
    with torch.device("meta"):
        module = Linear(product.inputs, product.outputs)
    module.weight = nn.Parameter(numbers.view(product.outputs, product.inputs), requires_grad=False)
    return module


def _timed(ring: list[Linear], product: Product, ground: Ground) -> float:
    x = torch.ones(1, product.rows, product.inputs, dtype=ground.dtype, device=ground.device)
    with torch.inference_mode(), numerics(ground.numerics):
        first = _pass(ring[:1], x)
        first = min(first, _pass(ring[:1], x))
        ring = ring[: max(2, int(SECONDS / first))]  # large products end before they have gone round
        times = [_pass(ring, x)]
        while len(times) < 3 or (sum(times) < SECONDS and len(times) < 50):
            times.append(_pass(ring, x))
    return statistics.median(times[1:]) / len(ring)


def _pass(ring: list[Linear], x: torch.Tensor) -> float:
    begun = time.perf_counter()
    for module in ring:
        module(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - begun


def read_bandwidth(device: str = "cpu", seconds: float = 0.3, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return bytes per second of reading memory that no cache holds, the best of a few tries."""
    x = torch.ones(RING // 4, dtype=torch.float32, device=device)
    best, until = float("inf"), clock() + seconds
    while clock() < until or best == float("inf"):
        begun = clock()
        x.sum().item()
        best = min(best, clock() - begun)
    return x.nbytes / best
