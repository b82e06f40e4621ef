"""What a model is made of, as data: named layer templates, and the pattern in which they are stacked."""

from __future__ import annotations

import inspect
from typing import Any, Literal, Self

import pydantic
from torch import nn

from hanok.core.config import Config, optional_spec, spec_type
from hanok.core.errors import UsageError, suggest
from hanok.model.depths import DepthsConfig
from hanok.model.shared import SharedConfig, width
from hanok.model.wiring import Wiring
from hanok.nn.cross import CROSSES
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn import FFNS
from hanok.nn.head import HeadConfig
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.nn.norm.rmsnorm import RMSNorm


class BlockConfig(Config):
    """One layer template: a mixer, a feed-forward network (or none), their norm, and how the residual stream is wired.

    `cross` looks at what the model's encoder read; `residual` multiplies each branch before it is added; `depths` lets
    a share of the tokens pass. `beside` names a shared part, whose output is added to what the mixer reads.
    """

    mixer: spec_type(MIXERS)  # type: ignore[valid-type]
    ffn: optional_spec(FFNS) = None  # type: ignore[valid-type]
    cross: optional_spec(CROSSES) = None  # type: ignore[valid-type]
    norm: spec_type(NORMS) = RMSNorm.Config()  # type: ignore[valid-type]
    wiring: Wiring = "pre"
    residual: float = 1.0
    depths: DepthsConfig | None = None
    beside: str | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.beside is not None and (self.wiring != "pre" or self.depths is not None):
            raise ValueError("a layer with a part beside it needs the wiring 'pre', and no depths")
        return self

    def resolve(self, dim: int) -> BlockConfig:
        """Return the template with defaults that depend on the width filled in."""
        if width(self.mixer, dim) != dim:
            raise ValueError(f"the output of a layer's mixer is as wide as the model: {dim}, not {self.mixer.out}")
        parts = {"mixer": self.mixer, "ffn": self.ffn, "cross": self.cross}
        return self.model_copy(update={name: part.resolve(dim) for name, part in parts.items() if part is not None})


class StackConfig(Config):
    """Layers one above the other: layer i is `layers[pattern[i % len(pattern)]]`; `norm` ends the stack."""

    depth: int = pydantic.Field(gt=0)
    layers: dict[str, BlockConfig]
    pattern: tuple[str, ...] = ("block",)
    norm: optional_spec(NORMS) = RMSNorm.Config()  # type: ignore[valid-type]

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not self.pattern:
            raise ValueError("pattern must name at least one layer template")
        unknown = sorted(set(self.pattern) - set(self.layers))
        if unknown:
            raise ValueError(f"pattern names {unknown}, but the layer templates are {sorted(self.layers)}")
        return self

    def block(self, layer: int) -> BlockConfig:
        """Return the template of a layer."""
        return self.layers[self.pattern[layer % len(self.pattern)]]


class MTPConfig(Config):
    """`depth` modules predict as many tokens further ahead, with blocks of a template `layer` (the last layer's)."""

    depth: int = pydantic.Field(default=1, gt=0)
    layer: str | None = None


class ModelConfig(StackConfig):
    """A stack of layers between an embedding and a head: a decoder, an encoder, or a decoder with an `encoder`.

    `context` is the longest sequence the model is meant for, `embeddings` says whether input and output share one
    matrix. What an encoder's layers see is their mixers' affair (`see: all`); `pooler` makes one vector of what an
    encoder read (BERT's); `mtp` adds modules that predict further ahead than the next token; `shared` are parts, by
    name, that several layers use (`model/shared.py`).
    """

    vocab: int = pydantic.Field(gt=0)
    dim: int = pydantic.Field(gt=0)
    context: int = pydantic.Field(default=2048, gt=0)
    embeddings: Literal["tied", "untied"] = "untied"
    embed: EmbedConfig = EmbedConfig()
    head: HeadConfig | None = HeadConfig()
    pooler: Literal["none", "tanh"] = "none"
    encoder: StackConfig | None = None
    mtp: MTPConfig | None = None
    shared: dict[str, SharedConfig] = {}

    @pydantic.model_validator(mode="after")
    def _resolve(self) -> Self:
        # Still under construction: defaults become numbers here, so that equal models have equal configs.
        object.__setattr__(self, "layers", {name: block.resolve(self.dim) for name, block in self.layers.items()})
        if self.encoder is not None:
            layers = {name: block.resolve(self.dim) for name, block in self.encoder.layers.items()}
            object.__setattr__(self, "encoder", self.encoder.model_copy(update={"layers": layers}))
        if self.mtp is not None:
            layer = self.mtp.layer or self.pattern[(self.depth - 1) % len(self.pattern)]
            if layer not in self.layers:
                raise ValueError(f"mtp.layer is {layer!r}, but the layer templates are {sorted(self.layers)}")
            object.__setattr__(self, "mtp", self.mtp.model_copy(update={"layer": layer}))
        object.__setattr__(self, "shared", {name: part.resolve(self.dim) for name, part in self.shared.items()})
        self._check_shared()
        if self.embeddings == "tied" and self.head is None:
            raise ValueError("a model without a head shares no matrix with it: embeddings must be 'untied'")
        return self

    def _check_shared(self) -> None:
        templates = (self.layers[name] for name in self.pattern[: self.depth])  # never a walk over a depth from outside
        used, known = {block.beside for block in templates if block.beside is not None}, set(self.shared)
        if used != known:
            raise ValueError(f"layers use the shared parts {sorted(used)}, but shared names {sorted(known)}")
        if wrong := [name for name in known if not name.isidentifier() or hasattr(nn.ModuleDict, name)]:
            raise ValueError(f"a shared part cannot be named {wrong[0]!r}: use another word")
        more = list(self.encoder.layers.values()) if self.encoder else []
        more += [self.layers[self.mtp.layer]] if self.mtp and self.mtp.layer else []
        if any(block.beside is not None for block in more):
            raise ValueError("shared parts are for layers of the stack, not for an encoder or for mtp")

    @property
    def uses(self) -> dict[int, str]:
        """Return the layers that have a shared part beside them, and its name."""
        beside = {layer: self.block(layer).beside for layer in range(self.depth)}
        return {layer: name for layer, name in beside.items() if name is not None}

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
