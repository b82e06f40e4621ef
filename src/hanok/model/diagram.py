"""A model in words and lines: what `hanok inspect` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hanok.core.config import Config
from hanok.model.config import BlockConfig, ModelConfig, StackConfig
from hanok.model.shared import SharedConfig
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
        "cache_bytes_bf16": {f"at {n:,}": size.cache_bytes(n, "bf16") for n in lengths},
    }


def draw(config: ModelConfig) -> str:
    """Return the block diagram: the stack from tokens to logits, each run of equal layers once."""
    lines: list[str] = []
    if config.encoder is not None:
        lines += ["source", f"  │ embed {config.vocab:,} → {config.dim}{_embed(config)}"]
        lines += [*_stack(config.encoder), *_norm(config.encoder), "  ▼", "states, at which the decoder looks", ""]
    lines += [line for name, part in config.shared.items() for line in _shared(name, part, config)]
    lines += ["tokens", f"  │ embed {config.vocab:,} → {config.dim}{_embed(config)}"]
    lines += [*_stack(config), *_norm(config)]
    if config.head is None:
        return "\n".join([*lines, "  ▼", "states"])
    if config.head.transform is not None:
        lines.append(f"  │ {_words(config.head.transform, 'transform')}")
    shared = "shared with embed" if config.embeddings == "tied" else "own weights"
    more = _plain(config.head, without=("transform",))
    return "\n".join([*lines, f"  │ head → {config.vocab:,} ({', '.join([shared, *more])})", "  ▼", "logits"])


def runs(config: StackConfig) -> list[tuple[str, int, int]]:
    """Return (template, first layer, last layer) of each run of equal layers."""
    found: list[tuple[str, int, int]] = []
    for layer in range(config.depth):
        name = config.pattern[layer % len(config.pattern)]
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], layer)
        else:
            found.append((name, layer, layer))
    return found


def _stack(config: StackConfig) -> list[str]:
    """Draw the layers; a pattern that repeats is drawn once, with how often, and so are templates in no order."""
    found, period = runs(config), len(config.pattern)
    lines: list[str] = []
    many = len(found) > 2 * len(set(config.pattern))
    if many and config.depth < 2 * period:
        for name in dict.fromkeys(config.pattern):
            layers = ", ".join(_range(first, last) for other, first, last in found if other == name)
            lines += ["  ▼", *_block(name, f"layers {layers}", config.layers[name])]
        return lines
    if many:
        for at, name in enumerate(config.pattern):
            layers = f"layers {at}, {at + period}, … {at + (config.depth - 1 - at) // period * period}"
            lines += ["  ▼", *_block(name, layers, config.layers[name])]
        return lines
    for name, first, last in found:
        layers = ("layer " if first == last else "layers ") + _range(first, last)
        lines += ["  ▼", *_block(name, layers, config.layers[name])]
    return lines


def _range(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def _shared(name: str, part: SharedConfig, config: ModelConfig) -> list[str]:
    """Draw a part that layers share, and say which they are."""
    steps = [_words(part.norm), _words(part.mixer)]
    steps += [_words(part.norm), _words(part.ffn)] if part.ffn is not None else []
    inside = [
        "[x, embeddings] ─► " + steps[0],
        *("─► " + step for step in [*steps[1:], f"linear → {config.dim}, per use"]),
    ]
    inside += [f"   (each use adapts {' and '.join(adapter.of)}, rank {adapter.rank})" for adapter in part.adapters]
    layers = [str(layer) for layer, used in config.uses.items() if used == name]
    return ["shared", *_box(f" {name} · beside layers {', '.join(layers)} ", inside), ""]


def _block(name: str, layers: str, block: BlockConfig) -> list[str]:
    parts = [part for part in (block.mixer, block.cross, block.ffn) if part is not None]
    norm, words = _words(block.norm), [_words(part) for part in parts]
    if block.wiring.startswith("parallel"):
        inside = ["x ─┬─► " + norm + (" for each" if block.wiring == "parallel_norms" else "")]
        inside += [f"   │   ├─► {word}" for word in words] + ["   ⊕ ◄─┘"]
    else:
        inside = []
        for word in words:
            before, after = block.wiring in ("pre", "sandwich"), block.wiring in ("sandwich", "branch")
            branch = [norm] * before + [word] + [norm] * after
            branch = [f"⊕ {block.beside}", *branch] if block.beside and not inside else branch
            start = "x ─┬─► " if not inside else "   ├─► "
            inside += [start + branch[0], *("   │   " + step for step in branch[1:]), "   ⊕ ◄─┘"]
            inside += ["   │ " + norm] if block.wiring == "post" else []
    if block.residual != 1.0:
        inside.append(f"   (branches times {block.residual:.4g})")
    return _box(f" {layers} · {name} ", inside)


def _box(title: str, inside: Sequence[str]) -> list[str]:
    width = max(len(line) for line in (*inside, title)) + 2
    return [f"  ┌{title:─^{width}}┐", *(f"  │ {line:<{width - 1}}│" for line in inside), f"  └{'─' * width}┘"]


def _norm(config: StackConfig) -> list[str]:
    return [] if config.norm is None else ["  ▼", f"  {_words(config.norm)}"]


def _embed(config: ModelConfig) -> str:
    words = _plain(config.embed)
    return f" ({', '.join(words)})" if words else ""


def _words(part: Config, name: str = "") -> str:
    flat = _plain(part)
    kind = name or getattr(part, "kind", "")
    return f"{kind} ({', '.join(flat)})" if flat else kind


def _plain(part: Config, without: tuple[str, ...] = ()) -> list[str]:
    """Return `key value` of what differs from a part's defaults, with parts inside it by their word."""
    shown = []
    for key, field in type(part).model_fields.items():
        value = getattr(part, key)
        if key in ("kind", *without) or value is None or value == field.default:
            continue
        if isinstance(value, Config):
            value = getattr(value, "kind", "yes")
        shown.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    return shown
