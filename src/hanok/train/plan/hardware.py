"""The device that a run is planned for: this machine, measured, or a named one as its maker describes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import yaml

from hanok.core.device import memory_bytes, pick, processor
from hanok.core.errors import UsageError, suggest
from hanok.ops.peak import matmul_peak

HERE = "this"


@dataclass(frozen=True)
class Hardware:
    """Dense FLOP/s of matrix products and bytes of memory of one device, and where the figures come from."""

    name: str
    flops: float
    memory: int
    source: str


@cache
def known() -> dict[str, Hardware]:
    """Return the named devices."""
    rows = yaml.safe_load((Path(__file__).parent / "hardware.yaml").read_text(encoding="utf-8"))
    return {
        word: Hardware(row["name"], row["bf16"] * 1e12, int(row["memory"] * 1e9), row["source"])
        for word, row in rows.items()
    }


def find(word: str) -> Hardware:
    """Return a device by name, or this machine's with its matrix products measured now."""
    if word != HERE:
        if word not in known():
            raise UsageError(f"unknown hardware {word!r}{suggest(word, known())} (known: {HERE}, {', '.join(known())})")
        return known()[word]
    if pick() == "cuda":
        facts = torch.cuda.get_device_properties(0)
        return Hardware(facts.name, matmul_peak(torch.bfloat16, "cuda"), facts.total_memory, "measured")
    peak = max(matmul_peak(dtype) for dtype in (torch.float32, torch.bfloat16))
    return Hardware(f"{processor()}, {torch.get_num_threads()} threads", peak, memory_bytes(), "measured")
