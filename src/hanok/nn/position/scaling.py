"""RoPE scalings: other frequencies for the same pairs, so that a trained model reads further than it was trained.

A frequency here depends on the config alone, never on the sequence at hand: a token's keys then have the same bits in
one forward, in chunks and in decoding. Where transformers chooses by the length of the sequence (`dynamic`, `longrope`)
the config says for which `length` to choose, and the values are those of transformers for a sequence of that length.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor

from hanok.core.config import Config

Length = Annotated[int, pydantic.Field(gt=0)]
Factor = Annotated[float, pydantic.Field(gt=0)]


def plain(theta: float, dims: int) -> Tensor:
    """Return theta^(-2 i / dims) for each pair i, in float32 as the reference implementations do."""
    steps = torch.arange(0, dims, 2, dtype=torch.int64, device="cpu").float() / dims
    return 1.0 / (theta**steps)


class Llama3Scaling(Config):
    """Slow long wavelengths down by `factor`, keep the short ones, blend in between (Llama 3.1 model card)."""

    kind: Literal["llama3"] = "llama3"
    factor: Factor
    low_freq_factor: Factor
    high_freq_factor: Factor
    original_context: Length

    def frequencies(self, theta: float, dims: int) -> Tensor:
        """Return the angle per position of each pair."""
        return self.scale(plain(theta, dims))

    def scale(self, frequencies: Tensor) -> Tensor:
        """Return other frequencies, scaled."""
        turns = self.original_context * frequencies / (2 * math.pi)
        blend = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = blend.clamp(0.0, 1.0)
        return (1 - blend) * frequencies / self.factor + blend * frequencies

    def magnitude(self) -> float:
        """Return what cosines and sines are multiplied by."""
        return 1.0


class LinearScaling(Config):
    """Position interpolation: every position is divided by `factor` (Chen et al. 2023, arXiv 2306.15595)."""

    kind: Literal["linear"] = "linear"
    factor: Factor

    def frequencies(self, theta: float, dims: int) -> Tensor:
        """Return the angle per position of each pair."""
        return plain(theta, dims) / self.factor

    def magnitude(self) -> float:
        """Return what cosines and sines are multiplied by."""
        return 1.0


class DynamicScaling(Config):
    """NTK-aware: a larger base, which slows the slowest pair most (bloc97 and emozilla 2023; YaRN, appendix A.1).

    base = theta (factor length / original_context - (factor - 1))^(d / (d - 2)) for d rotated features. `length` is the
    sequence that the model is set to read; up to the original context (the default) nothing changes.
    """

    kind: Literal["dynamic"] = "dynamic"
    factor: Factor
    original_context: Length
    length: Length | None = None

    def frequencies(self, theta: float, dims: int) -> Tensor:
        """Return the angle per position of each pair."""
        if dims < 4:
            raise ValueError("rope: dynamic scaling needs at least 4 rotated features")
        length = max(self.length or 0, self.original_context)
        stretch = self.factor * length / self.original_context - (self.factor - 1)
        return plain(theta * stretch ** (dims / (dims - 2)), dims)

    def magnitude(self) -> float:
        """Return what cosines and sines are multiplied by."""
        return 1.0


class YarnScaling(Config):
    """YaRN: interpolate the slow pairs, keep the fast ones, and sharpen attention (Peng et al. 2023, arXiv 2309.00071).

    Pairs that turn more than `beta_fast` (32) times in the original context keep their frequency, those that turn less
    than `beta_slow` (1) times are divided by `factor`, a ramp leads from one to the other; `truncate` none leaves the
    ramp's ends between pairs (gpt-oss). Cosines and sines are multiplied by `attention`, or by
    m(1) = 0.1 ln(factor) + 1, or by m(mscale) / m(mscale_all_dim) if both are given (DeepSeek-V2 and V3).
    """

    kind: Literal["yarn"] = "yarn"
    factor: Factor
    original_context: Length
    beta_fast: float | None = None
    beta_slow: float | None = None
    attention: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: Literal["whole", "none"] | None = None

    def frequencies(self, theta: float, dims: int) -> Tensor:
        """Return the angle per position of each pair."""
        low = self._pair_that_turns(self.beta_fast or 32, theta, dims)
        high = self._pair_that_turns(self.beta_slow or 1, theta, dims)
        if self.truncate != "none":
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dims - 1)
        high = high + 0.001 if low == high else high
        ramp = ((torch.arange(dims // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0.0, 1.0)
        frequencies = plain(theta, dims)
        return frequencies / self.factor * ramp + frequencies * (1 - ramp)

    def magnitude(self) -> float:
        """Return what cosines and sines are multiplied by."""
        if self.attention is not None:
            return self.attention
        if self.mscale and self.mscale_all_dim:
            return yarn_magnitude(self.factor, self.mscale) / yarn_magnitude(self.factor, self.mscale_all_dim)
        return yarn_magnitude(self.factor)

    def _pair_that_turns(self, times: float, theta: float, dims: int) -> float:
        return dims * math.log(self.original_context / (times * 2 * math.pi)) / (2 * math.log(theta))


def yarn_magnitude(factor: float, mscale: float = 1.0) -> float:
    """Return 0.1 mscale ln(factor) + 1; DeepSeek multiplies its attention scale by the square of it."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


class LongRopeScaling(Config):
    """LongRoPE: each pair is slowed by a factor of its own, found by search (Ding et al. 2024, arXiv 2402.13753).

    There are two lists, for sequences up to the original context and beyond. transformers takes the one that suits the
    sequence, so that generation changes its past when it crosses the border; here `length` (default: `context`, the
    longest that the model was extended to) decides once. Cosines and sines are multiplied by `attention`, or by
    sqrt(1 + ln(factor) / ln(original_context)) with factor = context / original_context if it is not given.
    """

    kind: Literal["longrope"] = "longrope"
    short_factor: tuple[Factor, ...]
    long_factor: tuple[Factor, ...]
    original_context: Length
    context: Length
    factor: Factor | None = None
    attention: float | None = None
    length: Length | None = None

    def frequencies(self, theta: float, dims: int) -> Tensor:
        """Return the angle per position of each pair."""
        long = (self.length or self.context) > self.original_context
        factors = torch.tensor(self.long_factor if long else self.short_factor, device="cpu")
        if len(factors) != dims // 2:
            raise ValueError(f"rope: longrope gives {len(factors)} factors for {dims // 2} pairs of features")
        steps = torch.arange(0, dims, 2, dtype=torch.int64, device="cpu").float() / dims
        return 1.0 / (factors * theta**steps)

    def magnitude(self) -> float:
        """Return what cosines and sines are multiplied by."""
        if self.attention is not None:
            return self.attention
        factor = self.factor or self.context / self.original_context
        return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(self.original_context))


Scaling = Annotated[
    LinearScaling | DynamicScaling | YarnScaling | Llama3Scaling | LongRopeScaling,
    pydantic.Field(discriminator="kind"),
]
