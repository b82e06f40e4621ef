"""Models side by side, by what their structure says: the table of attention variants, computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hanok.model.config import ModelConfig
from hanok.model.size import Size, count

GIB, KIB = 2**30, 2**10


def side_by_side(
    configs: Mapping[str, ModelConfig], lengths: Sequence[int], dtype: str = "bf16"
) -> list[dict[str, Any]]:
    """Return one row per model: what mixes tokens, parameters, FLOPs, bytes of weights and of the cache."""
    return [_row(name, config, count(config), lengths, dtype) for name, config in configs.items()]


def cache_curves(
    configs: Mapping[str, ModelConfig], longest: int, dtype: str = "bf16"
) -> tuple[list[int], dict[str, list[int]]]:
    """Return lengths (powers of two up to `longest`) and each model's cache bytes there."""
    lengths = [1 << power for power in range(7, longest.bit_length()) if 1 << power <= longest]
    return lengths, {name: [count(config).cache_bytes(n, dtype) for n in lengths] for name, config in configs.items()}


def mixers(config: ModelConfig) -> str:
    """Return what lets tokens learn of one another, each kind with its layers, heads and window."""
    found: dict[str, int] = {}
    for layer in range(config.depth):
        word = _mixer(config.block(layer).mixer)
        found[word] = found.get(word, 0) + 1
    for name in config.uses.values():
        word = "shared " + _mixer(config.shared[name].mixer)
        found[word] = found.get(word, 0) + 1
    return ", ".join(word if len(found) == 1 else f"{word} x{layers}" for word, layers in found.items())


def _mixer(mixer: Any) -> str:
    if mixer.kind != "gqa":
        return str(mixer.kind)
    shared = "mqa" if mixer.kv_heads == 1 < mixer.heads else "mha" if mixer.kv_heads == mixer.heads else "gqa"
    heads = f"{mixer.heads}" if shared == "mha" else f"{mixer.heads}/{mixer.kv_heads}"
    return f"{shared} {heads}" + (f" w{mixer.window}" if mixer.window else "")


def _row(name: str, config: ModelConfig, size: Size, lengths: Sequence[int], dtype: str) -> dict[str, Any]:
    return {
        "model": name,
        "mixers": mixers(config),
        "layers": config.depth,
        "dim": config.dim,
        "parameters": size.params,
        "active": size.params_active,
        "weights_gib": size.weight_bytes(dtype) / GIB,
        "cache_kib_per_token": size.cache_bytes_per_token(dtype) / KIB,
        "state_kib": size.state_bytes / KIB,
        **{f"cache_gib_at_{n}": size.cache_bytes(n, dtype) / GIB for n in lengths},
        **{f"gflops_per_token_at_{n}": size.flops_per_token(n) / 1e9 for n in lengths},
    }
