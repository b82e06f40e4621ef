"""Rotary position embedding, with the scalings that LLaMA checkpoints use."""

from __future__ import annotations

import math
from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.core.config import Config as BaseConfig
from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position
from hanok.ops.rope import rotate

CHUNK = 1024  # the table grows by this many positions, so that an angle's bits never depend on who asked first


class Llama3Scaling(BaseConfig):
    """Slow long wavelengths down by `factor`, keep the short ones, blend in between (Llama 3.1 model card)."""

    kind: Literal["llama3"] = "llama3"
    factor: float = pydantic.Field(gt=0)
    low_freq_factor: float = pydantic.Field(gt=0)
    high_freq_factor: float = pydantic.Field(gt=0)
    original_context: int = pydantic.Field(gt=0)

    def scale(self, frequencies: Tensor) -> Tensor:
        """Return the scaled frequencies."""
        turns = self.original_context * frequencies / (2 * math.pi)
        blend = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = blend.clamp(0.0, 1.0)
        return (1 - blend) * frequencies / self.factor + blend * frequencies


class LinearScaling(BaseConfig):
    """Position interpolation: every position is divided by `factor` (Chen et al. 2023, arXiv 2306.15595)."""

    kind: Literal["linear"] = "linear"
    factor: float = pydantic.Field(gt=0)

    def scale(self, frequencies: Tensor) -> Tensor:
        """Return the scaled frequencies."""
        return frequencies / self.factor


@POSITIONS.register("rope", paper="Su et al. 2021, arXiv 2104.09864")
class RoPE(Position):
    """Rotate pairs of features by an angle that grows with the position, so that scores see distances alone.

    Pair i of d = head_dim / 2 turns by position * theta^(-i / d); the pairs are (i, i + d), as in Hugging Face files.
    """

    class Config(PartConfig):
        """`theta` is the base; `scaling` stretches the reach of a trained model."""

        kind: Literal["rope"] = "rope"
        theta: float = pydantic.Field(default=10000.0, gt=0)
        scaling: Llama3Scaling | LinearScaling | None = pydantic.Field(default=None, discriminator="kind")

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"rope needs an even head_dim, got {width}")
        self.config = config
        self.pairs = width // 2
        self._table: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def forward(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        if positions.shape[0] > 1 and positions.stride(0) == 0:
            positions = positions[:1]  # every row has the same positions: look them up once
        cos, sin = self.angles(positions, q.dtype)
        return rotate(q, cos, sin), rotate(k, cos, sin)

    def angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the angles (..., head_dim / 2) at integer positions (...)."""
        need = int(positions.max()) + 1 if positions.numel() else 1
        key = (positions.device, dtype)
        if key not in self._table or self._table[key][0].shape[0] < need:
            self._table[key] = self._grow(-(-need // CHUNK), positions.device, dtype)
        cos, sin = self._table[key]
        return cos[positions], sin[positions]

    def frequencies(self) -> Tensor:
        """Return the angle per position of each pair, in float32 as the reference implementations do."""
        steps = torch.arange(0, 2 * self.pairs, 2, dtype=torch.int64).float() / (2 * self.pairs)
        frequencies = 1.0 / (self.config.theta**steps)
        return frequencies if self.config.scaling is None else self.config.scaling.scale(frequencies)

    def _grow(self, chunks: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        frequencies = self.frequencies()
        angles = [
            torch.arange(chunk * CHUNK, (chunk + 1) * CHUNK).float()[:, None] * frequencies for chunk in range(chunks)
        ]
        cos = torch.cat([angle.cos() for angle in angles])
        sin = torch.cat([angle.sin() for angle in angles])
        return cos.to(device, dtype), sin.to(device, dtype)
