"""Hand-made GGUF bytes, built with `struct` alone, and tiny models whose every number matters."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from hanok.model.config import ModelConfig
from hanok.model.model import Model

Entry = tuple[str, int, bytes]
Listed = tuple[str, Sequence[int], int, int, bytes]


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _craft(entries: Sequence[Entry] = (), tensors: Sequence[Listed] = (), **odd: Any) -> bytes:
    """Return a file of entries (key, type, payload) and tensors (name, sizes innermost first, type, offset, data)."""
    counts = odd.get("counts", (len(tensors), len(entries)))
    out = odd.get("magic", b"GGUF") + struct.pack("<IQQ", odd.get("version", 3), *counts)
    for key, kind, payload in entries:
        out += _text(key) + struct.pack("<I", kind) + payload
    for name, sizes, kind, offset, _ in tensors:
        out += _text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)
    out += bytes(-len(out) % odd.get("alignment", 32))
    start = len(out)
    for _, _, _, offset, data in tensors:
        out = out.ljust(start + offset, b"\0") + data if data else out  # no data: the offset is a lie
    return out


@pytest.fixture
def craft() -> Callable[..., bytes]:
    """Return the builder of hand-made files."""
    return _craft


@pytest.fixture
def text() -> Callable[[str | bytes], bytes]:
    """Return the encoder of a GGUF string."""
    return _text


@pytest.fixture
def tiny() -> Callable[..., Model]:
    """Return a maker of small models: `mixer` keys, then keys of the model's config."""

    def make(mixer: dict[str, Any] | None = None, ffn: dict[str, Any] | None = None, **keys: Any) -> Model:
        block = {"mixer": {"kind": "gqa", "heads": 4, "kv_heads": 2, **(mixer or {})}}
        block["ffn"] = {"kind": "swiglu", "hidden": 96, **(ffn or {})}
        base = {"vocab": 300, "dim": 64, "depth": 2, "context": 128, "layers": {"block": block}}
        model = Model(ModelConfig.parse({**base, **keys}), seed=1)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # gains of one and biases of zero would hide a mistake
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model

    return make
