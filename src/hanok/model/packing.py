"""A model's weights in another format and place, for the program that runs it: the same Model, its linears swapped."""

from __future__ import annotations

import mmap
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError, suggest
from hanok.nn.linear import Linear, swap

Weights = Literal["fp32", "bf16", "int8", "int4"]
KINDS = get_args(Weights)
LARGE = 1 << 16  # bytes; smaller tensors stay where they are
LINE = 64  # bytes at which a tensor begins


def check_weights(kind: str) -> str:
    """Return the format's name, or say which ones there are."""
    if kind not in KINDS:
        raise UsageError(f"unknown weights {kind!r}{suggest(kind, KINDS)} (known: {', '.join(KINDS)})")
    return kind


def pack_weights(model: nn.Module, kind: str) -> None:
    """Swap every linear whose weight is still plain into a format, in place and one at a time; fp32 changes no number.

    Embeddings are looked up, not multiplied, and stay; a head that shares their matrix gets a packed one of its own.
    Experts, for which there is no int4, are stored as int8, and stay as they are for bf16. Then weights are `settle`d.
    """
    if check_weights(kind) != "fp32":
        linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
        for name, module in linears.items():
            wanted = "int8" if kind == "int4" and kind not in module.formats else kind
            if module.kind == "dense" and wanted in module.formats:
                swap(model, name, module.pack(wanted))
    settle(model)


def settle(model: nn.Module) -> int:
    """Move the weights of products into one stretch of memory in huge pages, and return how many bytes were moved.

    A step reads every weight once, which on a processor is bound by how fast memory comes; in pages of 4 kB a good part
    of that time goes into finding them. Values, names and types stay; nothing happens off Linux or off the CPU.
    Tensors are moved one at a time, so that the largest of them is all that is held twice.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return 0
    found: dict[tuple[int, torch.dtype, torch.Size], list[tuple[nn.Module, str]]] = {}  # who shares it
    for part in (module for module in model.modules() if isinstance(module, Linear)):
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if tensor.device.type == "cpu" and tensor.nbytes >= LARGE and tensor.is_contiguous():
                found.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape), []).append((part, name))
    sizes = {at: -(-getattr(*places[0]).nbytes // LINE) * LINE for at, places in found.items()}
    if not sizes:
        return 0
    arena = mmap.mmap(-1, sum(sizes.values()), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    arena.madvise(mmap.MADV_HUGEPAGE)
    offset = 0
    for at, places in found.items():
        old: Tensor = getattr(*places[0])
        new = torch.frombuffer(arena, dtype=old.dtype, count=old.numel(), offset=offset).view(old.shape)
        new.copy_(old.detach())
        offset += sizes[at]
        for owner, name in places:
            getattr(owner, name).data = new
    return offset
