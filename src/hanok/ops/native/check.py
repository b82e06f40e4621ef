"""What a library must get right before it is used: a compiler, or a path that nobody could run yet, may be wrong."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

ROWS, INPUTS, OUTPUTS = 25, 100, 40  # a torn vector, a torn group, a torn tile, and panels of every width
GROUP, LANES = 32, 16
CLOSE = 1e-4


def sound(library: ctypes.CDLL) -> bool:
    """Return whether products in every format, and the other calls, agree with torch on small random numbers."""
    from hanok.ops.native.product import product
    from hanok.ops.native.rows import native_rms_norm, native_swish_gate

    g = torch.Generator().manual_seed(1)
    with torch.inference_mode(False), torch.no_grad():
        x = torch.randint(-127, 128, (ROWS, INPUTS), generator=g).float()
        x[:, ::GROUP] = 127.0  # each group's scale is then 1, and rounding to 8 bits changes nothing
        for weight, scale, plain in _weights(g):
            whole = product(library, x, weight, None, scale, OUTPUTS)
            alone = torch.cat([product(library, row, weight, None, scale, OUTPUTS) for row in x.split(1)])
            if not (_close(whole, x @ plain.t()) and torch.equal(whole, alone)):
                return False
        small = x / 50
        gate = native_swish_gate(library, small, small)
        norm = native_rms_norm(library, small, None, 1e-6, 0.0)
        want = small / (small.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return _close(gate, torch.nn.functional.silu(small) * small) and _close(norm, want)


def _weights(g: torch.Generator) -> list[tuple[Tensor, Tensor | None, Tensor]]:
    """Return (packed, scale, plain) of a matrix in each format."""
    plain = torch.randn(OUTPUTS, INPUTS, generator=g)
    brief, whole = plain.bfloat16(), torch.randint(-127, 128, (OUTPUTS, INPUTS), generator=g, dtype=torch.int8)
    scale = torch.rand(OUTPUTS, generator=g) + 0.5
    tiles, groups = -(-OUTPUTS // LANES), -(-INPUTS // GROUP)
    packed = torch.randint(0, 256, (tiles, groups, 4, LANES, 4), generator=g, dtype=torch.uint8)
    steps = (torch.rand(tiles, groups, LANES, generator=g) + 0.5).half()
    q = torch.stack((packed & 15, packed >> 4)).permute(1, 4, 2, 0, 3, 5).reshape(tiles, LANES, groups, GROUP)
    fine = (q.float() - 8) * steps.transpose(1, 2).unsqueeze(-1).float()
    return [
        (plain, None, plain),
        (brief, None, brief.float()),
        (whole, scale, whole.float() * scale[:, None]),
        (packed, steps.view(torch.int16), fine.reshape(tiles * LANES, -1)[:OUTPUTS, :INPUTS]),
    ]


def _close(got: Tensor, want: Tensor) -> bool:
    return bool((got - want).abs().max() <= CLOSE * want.abs().max())


def checked(library: Any) -> Any:
    """Return the library, or raise `OSError` where its numbers are wrong."""
    if not sound(library):
        raise OSError("its numbers differ from torch's on this machine")
    return library
