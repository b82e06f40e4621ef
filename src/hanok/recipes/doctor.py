"""Look at the machine before anything long is started."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import torch

from hanok.core.device import facts
from hanok.ops import native
from hanok.ops.matmul import linear
from hanok.ops.numerics import numerics
from hanok.ops.peak import matmul_peak

EXTRAS = {
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "report": ("plotly",),
    "data": ("pyarrow",),
    "client": ("openai",),
}
SKIPPED = {
    "serve": "no server, no chat page",
    "report": "no report.html",
    "data": "no Parquet files",
    "client": "the server is tested without the official client",
}


def examine() -> dict[str, Any]:
    """Return the machine's facts, measured speed, and what would be skipped here."""
    missing = [extra for extra, modules in EXTRAS.items() if not all(map(importlib.util.find_spec, modules))]
    return {
        **facts(),
        "matmul_gflops": {"fp32": _gflops(torch.float32), "bf16": _gflops(torch.bfloat16)},
        "exact_numerics": "hold" if exact_holds() else "DO NOT HOLD on this machine",
        "native_kernels": native.status(),
        "browser": shutil.which("chromium") or shutil.which("google-chrome") or "none",
        "skipped": [f"{SKIPPED[extra]} (pip install 'hanok[{extra}]')" for extra in missing] or "nothing",
    }


def _gflops(dtype: torch.dtype) -> float:
    return round(matmul_peak(dtype) / 1e9, 1)


def exact_holds() -> bool:
    """Return whether a row's product is the same, bit by bit, alone and among others, in tiles of fixed shape."""
    for dtype in (torch.float32, torch.bfloat16):
        for inputs, outputs in ((128, 384), (96, 37), (1024, 256)):
            x, weight = torch.randn(70, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
            with numerics("exact"):
                whole = linear(x, weight)
                if not all(torch.equal(linear(x[i : i + 1], weight), whole[i : i + 1]) for i in (0, 7, 31, 33, 69)):
                    return False
    return True
