"""Rotary position embedding."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import torch
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position, reach
from hanok.nn.position.scaling import Scaling, plain
from hanok.ops.native.rows import native_rotate, rows_ready
from hanok.ops.rope import Layout, rotate

CHUNK = 1024  # the table grows by this many positions, so that an angle's bits never depend on who asked first


@POSITIONS.register("rope", paper="Su et al. 2021, arXiv 2104.09864")
class RoPE(Position):
    """Rotate pairs of features by an angle that grows with the position, so that scores see distances alone.

    Pair i of d turns by position * theta^(-i / d), where 2 d features are rotated and the rest of a head passes.
    """

    class Config(PartConfig):
        """`theta` is the base; `scaling` stretches the reach of a trained model.

        A part of each head is rotated if `fraction` of it (GPT-NeoX, Phi) or `dims` features (GPT-J) are asked for.
        In `layout` half the pairs are (i, i + d), as in Hugging Face's LLaMA files, in interleaved
        (2 i, 2 i + 1).
        """

        kind: Literal["rope"] = "rope"
        theta: float = pydantic.Field(default=10000.0, gt=0)
        scaling: Scaling | None = None
        fraction: float = pydantic.Field(default=1.0, gt=0, le=1)
        dims: int | None = pydantic.Field(default=None, gt=0)
        layout: Layout = "half"

        def rotated(self, head_dim: int) -> int:
            """Return how many features of a head turn; a fraction that makes an odd number turns one more.

            The angles are then those of the odd number, as GPT-NeoX's code computes them.
            """
            dims = self.dims or int(head_dim * self.fraction)
            if self.dims and self.fraction != 1.0:
                raise ValueError("rope: give fraction or dims, not both")
            odd = dims % 2
            even_needed = self.dims is not None or (
                self.scaling is not None and self.scaling.kind in ("yarn", "longrope")
            )
            if (odd and even_needed) or not 0 < dims + odd <= head_dim:
                raise ValueError(f"rope turns pairs of features: {dims} of a head_dim of {head_dim} cannot be rotated")
            return dims

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
        self.config = config
        self.dims = config.rotated(width)
        self.pairs = (self.dims + 1) // 2
        self.frequencies()  # a scaling that does not fit these heads says so now
        self._table: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._earlier: list[tuple[Tensor, Tensor]] = []  # smaller tables, to which recorded calls may point

    def forward(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled() and (library := rows_ready(q, k)) is not None and positions.shape[0] == 1:
            return self._turned(library, q, k, positions)
        if positions.shape[0] > 1 and positions.stride(0) == 0:
            positions = positions[:1]  # every row has the same positions: look them up once
        cos, sin = self.angles(positions, q.dtype)
        layout = self.config.layout
        return rotate(q, cos, sin, layout), rotate(k, cos, sin, layout)

    def _turned(self, library: Any, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the queries and keys of one row in one call, which looks their angles up itself."""
        key = (positions.device, q.dtype)
        table = self._table.get(key) or self._table.setdefault(key, self._grow(1, *key))
        turned = native_rotate(library, (q, k), table, positions, self.config.layout)
        if turned is None:
            self.angles(positions, q.dtype)  # which lets the table grow
            turned = native_rotate(library, (q, k), self._table[key], positions, self.config.layout)
        assert turned is not None
        return turned

    def angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the angles (..., pairs) at integer positions (...)."""
        need = reach(positions)
        key = (positions.device, dtype)
        held = self._table[key][0].shape[0] if key in self._table else 0
        if held < need:
            if held:
                self._earlier.append(self._table[key])
            # Twice as many at least, so that all earlier ones together take no more than the last.
            self._table[key] = self._grow(max(-(-need // CHUNK), 2 * held // CHUNK), positions.device, dtype)
        cos, sin = self._table[key]
        return cos[positions], sin[positions]

    def frequencies(self) -> Tensor:
        """Return the angle per position of each pair, in float32 on the CPU."""
        scaling, theta = self.config.scaling, self.config.theta
        return plain(theta, self.dims) if scaling is None else scaling.frequencies(theta, self.dims)

    def _grow(self, chunks: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        frequencies, size = self.frequencies(), self.config.scaling.magnitude() if self.config.scaling else 1.0
        angles = [
            torch.arange(chunk * CHUNK, (chunk + 1) * CHUNK).float()[:, None] * frequencies for chunk in range(chunks)
        ]
        cos = torch.cat([angle.cos() for angle in angles]) * size
        sin = torch.cat([angle.sin() for angle in angles]) * size
        return cos.to(device, dtype), sin.to(device, dtype)
