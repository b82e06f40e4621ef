"""Parts that several layers share: computed beside a layer from the stream and the embeddings, adapted for each use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import Config, optional_spec, spec_type
from hanok.nn.context import Context, Make, Memory, PerSequence, Read, Recurrence
from hanok.nn.experts import Product
from hanok.nn.ffn import FFNS
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.nn.norm.rmsnorm import RMSNorm
from hanok.nn.router.base import Router
from hanok.ops.attention import PLAIN, Scoring


class AdapterConfig(Config):
    """Each use adds B A x to the products `of` a part (such as `mixer.q`), which have one A, of `rank` rows."""

    of: tuple[str, ...] = pydantic.Field(min_length=1)
    rank: int = pydantic.Field(gt=0)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if len({name.partition(".")[0] for name in self.of}) > 1:
            raise ValueError(f"products that share an A read the same, those of one part: not {', '.join(self.of)}")
        return self


class SharedConfig(Config):
    """A part's mixer and, perhaps, its feed-forward network, the norm before each, and what each use adapts."""

    mixer: spec_type(MIXERS)  # type: ignore[valid-type]
    ffn: optional_spec(FFNS) = None  # type: ignore[valid-type]
    norm: spec_type(NORMS) = RMSNorm.Config()  # type: ignore[valid-type]
    adapters: tuple[AdapterConfig, ...] = ()

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        named = [name for adapter in self.adapters for name in adapter.of]
        if doubled := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"two adapters of one product: {', '.join(doubled)}")
        return self

    def resolve(self, dim: int) -> SharedConfig:
        """Return the part with defaults that depend on the model's width filled in."""
        mixer = self.mixer.resolve(2 * dim)
        ffn = None if self.ffn is None else self.ffn.resolve(width(mixer, 2 * dim))
        return self.model_copy(update={"mixer": mixer, "ffn": ffn})


class Adapter(nn.Module):
    """B A x, beside the products of a part that all uses share (Hu et al. 2021, arXiv 2106.09685, section 4.1)."""

    def __init__(self, rank: int, products: Mapping[str, Linear]) -> None:
        super().__init__()
        inputs, *others = {product.inputs for product in products.values()}
        if others:
            raise ValueError(f"adapters: {' and '.join(products)} share an A, and do not read the same")
        self.A = Linear(inputs, rank)
        self.A.active = len(products)
        self.B = nn.ModuleDict({name: Linear(rank, product.outputs) for name, product in products.items()})

    def beside(self, name: str, product: Product) -> Product:
        """Return W x + B A x for the product W of this name."""
        return lambda x: product(x) + self.B[name](self.A(x))


class Use(nn.Module):
    """What a layer has of its own where it uses a shared part: adapters, and a projection to the model's width."""

    def __init__(self, width: int, dim: int, adapters: Mapping[str, Adapter]) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict(adapters)
        self.out = Linear(width, dim)

    def products(self, part: nn.Module) -> list[Product]:
        """Return the products of a part, in the order of its formula, adapted for this use."""
        return [self._product(name, part.get_submodule(name)) for name in cast(Sequence[str], part.products)]

    def _product(self, name: str, product: nn.Module) -> Product:
        found = [cast(Adapter, adapter) for adapter in self.adapters.values() if name in cast(Adapter, adapter).B]
        return found[0].beside(name, product) if found else product


class Shared(nn.Module):
    """out_l(ffn_l(norm(mixer_l(norm([x, e]))))) for each layer l that uses the part; e are the embeddings.

    There is no residual stream inside: what comes out is added to what the layer's own mixer reads (Glorioso et al.
    2024, Zamba2, arXiv 2411.15242, section 2). The weights belong to the part; adapters and `out` hang under `uses`,
    by the layer's number. Each use remembers its own past, at its place among the model's memories.
    """

    def __init__(self, config: SharedConfig, dim: int, places: Mapping[int, int]) -> None:
        super().__init__()
        config = config.resolve(dim)
        self.places = dict(places)
        self.mixer_norm = NORMS[config.norm.kind](config.norm, 2 * dim)
        self.mixer = MIXERS[config.mixer.kind](config.mixer, 2 * dim, min(self.places.values()))
        inner = width(config.mixer, 2 * dim)
        self.ffn_norm = NORMS[config.norm.kind](config.norm, inner) if config.ffn else None
        self.ffn = FFNS[config.ffn.kind](config.ffn, inner) if config.ffn else None
        for module in self.modules():
            if isinstance(module, Linear | Router):
                module.active = module.active * len(self.places)
        self.adapted = {adapter.of[0].partition(".")[0] for adapter in config.adapters}
        self.uses = nn.ModuleDict({str(layer): Use(inner, dim, self._adapters(config)) for layer in self.places})

    def _adapters(self, config: SharedConfig) -> dict[str, Adapter]:
        """Return new adapters for a use, named after the products that they adapt."""
        found = {}
        for adapter in config.adapters:
            part, _, _ = adapter.of[0].partition(".")
            names = [name.partition(".")[2] for name in adapter.of]
            module = {"mixer": self.mixer, "ffn": self.ffn}.get(part)
            known = getattr(module, "products", ())
            if wrong := [name for name in names if name not in known]:
                every = ", ".join(f"{part}.{name}" for name in known) or f"none of {part or 'it'}"
                raise ValueError(f"adapters: there is no product {part}.{wrong[0]} to adapt (there are: {every})")
            assert isinstance(module, nn.Module)
            found["_".join(names)] = Adapter(adapter.rank, {name: _linear(module, name) for name in names})
        return found

    def memory(self) -> list[Memory]:
        """Return what each use keeps of the past, in the order of its layers."""
        return [self.mixer.memory() for _ in self.places]

    def forward(self, x: Tensor, embedded: Tensor, ctx: Context, layer: int) -> Tensor:
        """Return what is added (B,T,dim) to what the mixer of `layer` reads."""
        use, ctx = cast(Use, self.uses[str(layer)]), Placed(ctx, self.places[layer])
        y = self.mixer_norm(torch.cat((x, embedded), -1))
        y = self.mixer.formula(y, ctx, use.products(self.mixer)) if "mixer" in self.adapted else self.mixer(y, ctx)
        if self.ffn is not None and self.ffn_norm is not None:
            y = self.ffn_norm(y)
            y = self.ffn.formula(y, use.products(self.ffn)) if "ffn" in self.adapted else self.ffn(y)
        out: Tensor = use.out(y)
        return out


class Placed:
    """A context in which a part's memory is another than the part thinks: one part has as many as it has uses."""

    def __init__(self, ctx: Context, place: int) -> None:
        self.positions, self.keeps, self._ctx, self._place = ctx.positions, ctx.keeps, ctx, place

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int | None = None,
        how: Scoring = PLAIN,
    ) -> Tensor:
        return self._ctx.attend(self._place, q, k, v, scale=scale, window=window, how=how)

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        return self._ctx.recur(self._place, fn, x, memory)

    def look(self, layer: int, x: Tensor, make: Make, read: Read) -> Tensor:
        return self._ctx.look(self._place, x, make, read)


def width(mixer: Any, dim: int) -> int:
    """Return the width of what comes out of a mixer that reads `dim` numbers."""
    return int(getattr(mixer, "out", None) or dim)


def _linear(part: nn.Module, name: str) -> Linear:
    product = part.get_submodule(name)
    assert isinstance(product, Linear)
    return product
