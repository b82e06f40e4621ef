"""A model in words and lines: what `hanok inspect` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hanok.core.config import PartConfig
from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.size import BYTES, Size


def describe(size: Size, lengths: Sequence[int]) -> dict[str, Any]:
    """Return a model's costs: parameters, FLOPs per token, weight and cache bytes, at the lengths asked for."""
    return {
        "parameters": size.params,
        "parameters_active": size.params_active,
        "parameters_embedding": size.params_embedding,
        "flops_per_token": {f"at {n:,}": size.flops_per_token(n) for n in lengths},
        "training_flops_per_token": {f"at {n:,}": size.training_flops_per_token(n) for n in lengths},
        "weight_bytes": {dtype: size.weight_bytes(dtype) for dtype in BYTES},
        "cache_bytes_per_token": {dtype: size.cache_bytes_per_token(dtype) for dtype in BYTES},
        "state_bytes_per_sequence": size.state_bytes,
        "cache_bytes_bf16": {f"at {n:,}": size.cache_bytes_per_token("bf16") * n + size.state_bytes for n in lengths},
    }


def draw(config: ModelConfig) -> str:
    """Return the block diagram: the stack from tokens to logits, each run of equal layers once."""
    lines = ["tokens", f"  │ embed {config.vocab:,} → {config.dim}"]
    for name, first, last in runs(config):
        layers = f"layer {first}" if first == last else f"layers {first}–{last}"
        lines += ["  ▼", *_block(name, layers, config.layers[name])]
    head = "shared with embed" if config.embeddings == "tied" else "own weights"
    return "\n".join(
        [*lines, "  ▼", f"  {_words(config.norm)}", f"  │ head {config.dim} → {config.vocab:,} ({head})", "logits"]
    )


def runs(config: ModelConfig) -> list[tuple[str, int, int]]:
    """Return (template, first layer, last layer) of each run of equal layers."""
    found: list[tuple[str, int, int]] = []
    for layer in range(config.depth):
        name = config.pattern[layer % len(config.pattern)]
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], layer)
        else:
            found.append((name, layer, layer))
    return found


def _block(name: str, layers: str, block: BlockConfig) -> list[str]:
    inside = [
        "x ─┬─► " + _words(block.norm),
        "   │   " + _words(block.mixer),
        "   ⊕ ◄─┘",
        "   ├─► " + _words(block.norm),
        "   │   " + _words(block.ffn),
        "   ⊕ ◄─┘",
    ]
    title = f" {layers} · {name} "
    width = max(len(line) for line in (*inside, title)) + 2
    return [f"  ┌{title:─^{width}}┐", *(f"  │ {line:<{width - 1}}│" for line in inside), f"  └{'─' * width}┘"]


def _words(part: PartConfig) -> str:
    shown = {key: value for key, value in part.to_dict().items() if key != "kind" and value not in (None, "none")}
    flat = [f"{key} {value['kind'] if isinstance(value, dict) else value}" for key, value in shown.items()]
    return f"{part.kind} ({', '.join(flat)})" if flat else part.kind
