"""What this machine is: cores, memory, accelerator, and the versions that numbers depend on."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hanok.core.errors import UsageError


def cpu_count() -> int:
    """Return the number of cores that this process may use (affinity and container quota counted)."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def thread_count() -> int:
    """Return how many threads to compute with: OMP_NUM_THREADS where somebody has set it, else one a core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdecimal() else cpu_count()


def memory_bytes() -> int:
    """Return the physical memory in bytes, or 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def pick(device: str = "auto") -> str:
    """Return a torch device name: `auto` is cuda where there is one, else cpu."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} was asked for, but torch sees no CUDA device; use 'cpu' or 'auto'")
    if device.split(":")[0] not in {"cpu", "cuda", "mps"}:
        raise UsageError(f"unknown device {device!r}: use cpu, cuda, mps or auto")
    return device


@cache
def native_bfloat16(device: str) -> bool:
    """Return whether a device ("cpu", "cuda", ...) multiplies bfloat16 matrices faster than float32 ones."""
    import torch

    if device != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return any(able.get(feature, False) for feature in ("avx512_bf16", "amx_bf16", "bf16"))


def processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def version(package: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    """Return what a report's header says about the machine."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "system": platform.platform(terse=True),
        "processor": processor(),
        "cores": cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "hanok": version("hanok"),
    }
