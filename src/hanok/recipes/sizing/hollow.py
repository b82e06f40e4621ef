"""A model without its matrix products: everything else that a step of the engine does, and a list of the products.

Each Linear gives numbers of the right shape for nothing and notes that it was asked. What is left is timed for real:
attention over the pool, recurrences, norms, routing, Python, the choice of tokens. The matrices take no memory, so
that a model which would fill the machine is hollow in a few megabytes. A matrix that a mixer reads itself, past its
Linear's product (the latent attention's, a recurrent network's), is there for real.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.experts import ExpertLinear
from hanok.nn.linear import Linear

TABLE = 1 << 22  # different numbers that an embedding is tiled with


@dataclass(frozen=True)
class Product:
    """Rows times a matrix (outputs, inputs), which may be an expert's: those have fewer formats."""

    inputs: int
    outputs: int
    rows: int
    expert: bool = False


@dataclass
class Step:
    """One step of the engine: the seconds of all but its products, those, and which requests got a token."""

    seconds: float
    products: Counter[Product]
    ids: list[int] = field(default_factory=list)


class Hollow:
    """An LLM whose products are noted and not computed."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: str) -> None:
        self._layers: Counter[Product] = Counter()
        self._head: Counter[Product] = Counter()
        self._repeated: dict[int, Counter[Product]] = {}  # the layers' products, by a step's number of tokens
        self._heads: dict[int, Counter[Product]] = {}  # and the head's, where every token is read to its end
        self.direct: set[str] = set()  # linears whose matrix the model reads itself
        self._blank: dict[tuple[Any, ...], Tensor] = {}
        self._asked: set[str] = set()
        model = Model(config, device="meta").to(dtype)
        linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
        for name, module in linears.items():
            self._empty(module, name)
        matrices = {f"{name}.weight" for name in linears}
        tensors = {
            name: _numbers(tensor, device, hollow=name in matrices)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        }
        model.load_state_dict(tensors, strict=False, assign=True)
        model.tie()
        self.llm = LLM(model)
        self.walk(Engine(self.llm), [[0, 1]], 2)
        idle = ("mtp.", "pooler")
        self.direct = {name for name in linears if name not in self._asked and not name.startswith(idle)}
        real = {f"{name}.weight": _numbers(linears[name].weight, device) for name in self.direct}
        model.load_state_dict(real, strict=False, assign=True)

    def walk(self, engine: Engine, prompts: Sequence[Sequence[int]], output_len: int) -> list[Step]:
        """Answer prompts and return what each step was made of."""
        for prompt in prompts:
            engine.add(Request(list(prompt), output_len, temperature=0.0, ignore_eos=True))
        steps: list[Step] = []
        while engine.has_work:
            self._layers, self._head = Counter(), Counter()
            begun = time.perf_counter()
            events = engine.step()
            seconds = time.perf_counter() - begun
            for event in events:
                if event.error is not None:
                    raise event.error
            if engine.replayed:
                self._layers = self._repeated[engine.replayed]
                self._head = self._head or self._heads[engine.replayed]  # which was recorded, too
            elif self._layers:
                count = max(product.rows for product in self._layers)
                self._repeated[count] = self._layers
                if any(product.rows == count for product in self._head):
                    self._heads[count] = self._head
            steps.append(Step(seconds, self._layers + self._head, [event.id for event in events if event.tokens]))
        return steps

    def _empty(self, module: Linear, name: str) -> None:
        """Put a note in the place of a product; the head's numbers are drawn, as of zeros every row is the same."""
        drawn, expert = name == "head", isinstance(module, ExpertLinear)

        def note(x: Tensor, *_: Any, **__: Any) -> Tensor:
            rows = x.numel() // max(1, x.shape[-1])
            self._asked.add(name)
            if rows:
                seen = self._head if drawn else self._layers
                seen[Product(module.inputs, module.outputs, rows, expert)] += 1
            return self._answer((*x.shape[:-1], module.outputs), x, drawn)

        def notes(experts: Sequence[int]) -> list[Callable[[Tensor], Tensor]]:
            return [note for _ in experts]

        module.product = note
        if isinstance(module, ExpertLinear):
            module.apart = notes  # type: ignore[method-assign]

    def call_seconds(self, calls: int = 500, tries: int = 7) -> float:
        """Return what it takes to ask for a product and get nothing: a part of every step, and of no real product."""
        with torch.device("meta"):
            module = Linear(8, 8)
        self._empty(module, "")
        x, times = torch.zeros(1, 1, 8), []
        with torch.inference_mode():
            for _ in range(tries):
                begun = time.perf_counter()
                for _ in range(calls):
                    module(x)
                times.append((time.perf_counter() - begun) / calls)
        return statistics.median(times)

    def _answer(self, shape: tuple[int, ...], x: Tensor, drawn: bool) -> Tensor:
        key = (shape, x.dtype, drawn)
        if key not in self._blank:
            made = torch.zeros(shape, dtype=x.dtype, device=x.device)
            self._blank[key] = made.normal_(generator=_draw(x.device)) if drawn else made
        return self._blank[key]


def _numbers(tensor: Tensor, device: str, *, hollow: bool = False) -> Tensor:
    """Return numbers in the place of a tensor without memory: drawn ones, a few million of them over and over.

    A hollow tensor is one number, seen everywhere.
    """
    if hollow:
        one = torch.full((), 0.02, dtype=tensor.dtype, device=device)
        return nn.Parameter(one.expand(tensor.shape), requires_grad=False)
    made = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    if not tensor.is_floating_point():
        return made.zero_()
    flat = made.view(-1)
    first = flat[:TABLE].normal_(0.0, 0.02, generator=_draw(made.device))
    for start in range(TABLE, flat.numel(), TABLE):
        part = flat[start : start + TABLE]
        part.copy_(first[: part.numel()])
    return nn.Parameter(made, requires_grad=False)


def _draw(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)
