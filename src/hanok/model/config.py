"""What a model is made of, as data: named layer templates, and the pattern in which they are stacked."""

from __future__ import annotations

import inspect
from typing import Any, Literal, Self

import pydantic

from hanok.core.config import Config, spec_type
from hanok.core.errors import UsageError, suggest
from hanok.nn.ffn import FFNS
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.nn.norm.rmsnorm import RMSNorm


class BlockConfig(Config):
    """One layer template: a mixer, a feed-forward network, their norm, and how the residual stream is wired."""

    mixer: spec_type(MIXERS)  # type: ignore[valid-type]
    ffn: spec_type(FFNS)  # type: ignore[valid-type]
    norm: spec_type(NORMS) = RMSNorm.Config()  # type: ignore[valid-type]
    wiring: Literal["pre"] = "pre"

    def resolve(self, dim: int) -> BlockConfig:
        """Return the template with defaults that depend on the width filled in."""
        return self.model_copy(update={"mixer": self.mixer.resolve(dim), "ffn": self.ffn.resolve(dim)})


class ModelConfig(Config):
    """A decoder: layer i is the template `layers[pattern[i % len(pattern)]]`.

    `context` is the longest sequence the model is meant for, `embeddings` says whether input and output share one
    matrix.
    """

    vocab: int = pydantic.Field(gt=0)
    dim: int = pydantic.Field(gt=0)
    depth: int = pydantic.Field(gt=0)
    layers: dict[str, BlockConfig]
    pattern: tuple[str, ...] = ("block",)
    norm: spec_type(NORMS) = RMSNorm.Config()  # type: ignore[valid-type]
    context: int = pydantic.Field(default=2048, gt=0)
    embeddings: Literal["tied", "untied"] = "untied"

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not self.pattern:
            raise ValueError("pattern must name at least one layer template")
        unknown = sorted(set(self.pattern) - set(self.layers))
        if unknown:
            raise ValueError(f"pattern names {unknown}, but the layer templates are {sorted(self.layers)}")
        # Still under construction: defaults become numbers here, so that equal models have equal configs.
        object.__setattr__(self, "layers", {name: block.resolve(self.dim) for name, block in self.layers.items()})
        return self

    def block(self, layer: int) -> BlockConfig:
        """Return the template of a layer."""
        return self.layers[self.pattern[layer % len(self.pattern)]]

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> ModelConfig:
        """Return a named preset, with its dials (vocab, dim, depth, ...) turned by keyword."""
        from hanok.model.preset import PRESETS

        build = PRESETS[name]
        dials = list(inspect.signature(build).parameters)
        for dial in overrides:
            if dial not in dials:
                raise UsageError(
                    f"preset {name} has no dial {dial!r}{suggest(dial, dials)} (it has: {', '.join(dials)})"
                )
        try:
            config: ModelConfig = build(**overrides)
        except pydantic.ValidationError as error:
            raise UsageError(f"preset {name}: {error}") from None
        return config
