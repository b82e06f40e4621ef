"""The matrix products that a device can do in a second, measured: what utilisation is a share of."""

from __future__ import annotations

import time

import torch


def matmul_peak(dtype: torch.dtype, device: str | torch.device = "cpu", seconds: float = 0.3) -> float:
    """Return FLOP/s of a large square matrix product, the best of a few tries, under the precision now in force."""
    device = torch.device(device)
    size = 1024 if device.type == "cpu" else 8192
    # From a generator of its own: measuring must not move the random numbers of whoever asks.
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=draw).to(device, dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
