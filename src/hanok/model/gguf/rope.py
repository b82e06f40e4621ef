"""How GGUF says that rotary positions are stretched: keys for a linear factor, a tensor of factors for LLaMA 3.1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError
from hanok.model.gguf.cursor import Value
from hanok.model.gguf.reader import GGUF

FACTORS = "rope_freqs.weight"  # per rotated pair: what its frequency is divided by
EXACT = "hanok.rope.llama3"  # our own key beside it: the four numbers that the factors come from
NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "original_context")
PUBLISHED = (1.0, 4.0, 8192.0)  # what every LLaMA 3.1, 3.2 and 3.3 has beside its factor


def factors(theta: float, head_dim: int, scaling: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Return what the frequencies theta^(-2i / head_dim) are divided by in the LLaMA 3.1 scaling."""
    factor, low, high, context = (scaling[name] for name in NUMBERS)
    with np.errstate(all="ignore"):  # a hostile file's numbers may overflow; they then match no factors
        frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
        blend = np.clip((context * frequencies / (2 * math.pi) - low) / (high - low), 0.0, 1.0)
        return np.asarray(1.0 / ((1.0 - blend) / factor + blend))


def read_scaling(file: GGUF, name: str, theta: float, head_dim: int) -> dict[str, Any] | None:
    """Return our config of the scaling, or None."""
    kind = file.text(f"{name}.rope.scaling.type", "linear")
    factor = file.real(f"{name}.rope.scaling.factor", file.real(f"{name}.rope.scale_linear", 0.0))
    if kind not in ("none", "linear"):
        file.refuse(f"{name}.rope.scaling.type = {kind!r} is not supported (known: none, linear)")
    if FACTORS not in file.tensors:
        return {"kind": "linear", "factor": factor} if kind == "linear" and factor != 0 else None
    if kind == "linear" and factor not in (0, 1):
        file.refuse(f"it has both {name}.rope.scaling.factor and {FACTORS}")
    if file.tensors[FACTORS].shape != (head_dim // 2,):
        file.refuse(f"{FACTORS} has the shape {list(file.tensors[FACTORS].shape)}, not [{head_dim // 2}]")
    found = file.read(FACTORS).double().numpy()
    if (found == 1).all():
        return None
    candidates = [(float(found.max()), *PUBLISHED)]
    own = file.metadata.get(EXACT)
    if isinstance(own, np.ndarray) and own.dtype == np.float64 and own.shape == (4,):
        candidates.insert(0, tuple(own.tolist()))
    for candidate in candidates:
        scaling = dict(zip(NUMBERS, candidate, strict=True))
        if _sane(scaling) and np.allclose(factors(theta, head_dim, scaling), found, rtol=1e-4, atol=0):
            return {"kind": "llama3", **scaling, "original_context": int(scaling["original_context"])}
    return file.refuse(f"{FACTORS} is not a LLaMA 3.1 scaling of a context of 8192 tokens, the only one that is known")


def write_scaling(
    name: str, position: Mapping[str, Any], head_dim: int, known: tuple[str, ...]
) -> tuple[dict[str, Value], dict[str, npt.NDArray[np.float32]]]:
    """Return the metadata and the tensors that say the scaling of a position's config."""
    scaling = position["scaling"]
    if scaling is None:
        return {}, {}
    if scaling["kind"] not in known:
        raise UsageError(f"{name} has no words for the rope scaling {scaling['kind']!r} (it has: {', '.join(known)})")
    if scaling["kind"] == "linear":
        return {f"{name}.rope.scaling.type": "linear", f"{name}.rope.scaling.factor": np.float32(scaling["factor"])}, {}
    exact = np.array([scaling[number] for number in NUMBERS], np.float64)
    return {EXACT: exact}, {FACTORS: factors(position["theta"], head_dim, scaling).astype(np.float32)}


def _sane(scaling: Mapping[str, float]) -> bool:
    numbers = [scaling[name] for name in NUMBERS]
    return (
        all(math.isfinite(number) and 0 < number < 1 << 53 for number in numbers)
        and scaling["high_freq_factor"] > scaling["low_freq_factor"]
        and scaling["original_context"].is_integer()
    )
