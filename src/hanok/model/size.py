"""What a model costs, counted by walking its modules on the meta device: no formula to drift from the code."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import PerSequence, PerToken
from hanok.nn.linear import Linear
from hanok.nn.router.base import Router

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Size:
    """Counts of one model.

    `params_active` leaves out the experts that a token does not visit (on average, where a router is free). `flops` are
    forward FLOPs per token without the mixing over the past; `cache_numbers` is what one more token adds to the
    memories, of which `windows` (tokens, numbers per token) forget the oldest; `state_bytes` is what a sequence holds
    whatever its length.
    """

    params: int
    params_active: int
    params_embedding: int
    params_matrix: int
    flops: int
    mixing: tuple[int, ...]
    cache_numbers: int
    state_bytes: int
    windows: tuple[tuple[int, int], ...] = ()

    def flops_per_token(self, past: int) -> int:
        """Return forward FLOPs of a token that looks back over `past` tokens."""
        return self.flops + self.mixing[0] * past + self.mixing[1]

    def training_flops_per_token(self, length: int) -> int:
        """Return forward and backward FLOPs of an average token of sequences of a length (three forwards)."""
        return 3 * self.flops_per_token(length // 2)

    def cache_bytes_per_token(self, dtype: str = "bf16") -> int:
        """Return the bytes that one more token adds to the cache."""
        return self.cache_numbers * BYTES[dtype]

    def cache_bytes(self, length: int, dtype: str = "bf16") -> int:
        """Return the bytes that a sequence of a length needs, where layers with a window keep the window alone."""
        past = self.cache_numbers * length - sum(max(0, length - window) * numbers for window, numbers in self.windows)
        return past * BYTES[dtype] + self.state_bytes

    def weight_bytes(self, dtype: str = "bf16") -> int:
        """Return the bytes of the weights."""
        return self.params * BYTES[dtype]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-able data."""
        return asdict(self)


def count(config: ModelConfig) -> Size:
    """Build the model without weights and count."""
    return count_model(Model(config, device="meta"))


def count_model(model: Model) -> Size:
    """Count a model's parameters (numbers that were learned, shared ones once), FLOPs and memories."""
    linears = [module for module in model.modules() if isinstance(module, Linear | Router)]
    params = sum(tensor.numel() for tensor in learned(model).values())
    idle = sum(module.idle for module in linears)
    memory = model.memory()
    windows: Counter[int] = Counter()
    for kept in memory:
        if isinstance(kept, PerToken) and kept.window is not None:
            windows[kept.window] += kept.numbers
    mixers = model.mixers()
    near, far = 1 << 20, 1 << 21  # far enough that windows are full: growth per token of past, and the rest
    cost_near = sum(_mixing(mixer, near) for mixer in mixers)
    growth = (sum(_mixing(mixer, far) for mixer in mixers) - cost_near) // (far - near)
    return Size(
        params=params,
        params_active=round(params - idle),
        params_embedding=model.embed.weight.numel(),
        params_matrix=sum(module.copies * module.inputs * module.outputs for module in linears),
        flops=round(sum(2 * module.active * module.inputs * module.outputs for module in linears)),
        mixing=(growth, cost_near - growth * near),
        cache_numbers=sum(m.numbers for m in memory if isinstance(m, PerToken)),
        state_bytes=sum(_state_bytes(m) for m in memory if isinstance(m, PerSequence)),
        windows=tuple(sorted(windows.items())),
    )


def fixed(model: nn.Module) -> frozenset[str]:
    """Return the tensors that keep the dtype they are stored in: buffers that are no packed weights."""
    return frozenset(stored(model)) - frozenset(learned(model))


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that are saved: parameters and packed weights by name, shared ones once."""
    seen: dict[int, str] = {}
    tensors = {}
    for name, tensor in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        if id(tensor) not in seen:
            seen[id(tensor)] = name
            tensors[name] = tensor
    return tensors


def learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that are saved and were learned: parameters and packed weights, not balancing biases."""
    packed = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, Linear)
        for own, _ in module.named_buffers(recurse=False)
    }
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: tensor for name, tensor in stored(model).items() if name in parameters | packed}


def _mixing(mixer: Any, past: int) -> int:
    return int(mixer.mixing_flops(past))


def _state_bytes(memory: PerSequence) -> int:
    return torch.Size(memory.shape).numel() * memory.dtype.itemsize
