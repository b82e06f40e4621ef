"""The allocator setting belongs to a process of its own, so it is tried in one."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept() -> None:
    """Blocks of 64 MB come back without new page faults; the control, without the setting, faults again each time."""
    code = """
import ctypes, resource, sys, torch
from hanok.train.allocator import keep_freed_memory
took = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(1 << 24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(took, faults())
"""
    found = {
        arm: subprocess.run(
            [sys.executable, "-c", code, arm], capture_output=True, text=True, check=True
        ).stdout.split()
        for arm in ("keep", "control")
    }
    if found["keep"][0] != "True":
        pytest.skip("this C library has no mallopt")
    assert int(found["keep"][1]) * 5 < int(found["control"][1])
