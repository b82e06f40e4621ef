"""The tensors behind a page pool: K and V by page for `PerToken` memory, one state per row for `PerSequence`.

Shape legend: L layers of one kind, G key heads, N token slots (pages laid end to end), D key size, E value size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.nn.context import Memory, PerSequence, PerToken


def page_bytes(memory: Sequence[Memory], page_size: int, dtype: torch.dtype) -> int:
    """Return the bytes that one page takes over all layers; 0 for a model that only carries state."""
    return sum(spec.numbers for spec in memory if isinstance(spec, PerToken)) * page_size * dtype.itemsize


class Store:
    """K as (G, N, D) and V as (G, N, E) per layer, states as (rows, *shape); page 0 is never given out and stays zero.

    Layers of one shape share a tensor with a leading L, so that clearing or copying a page is one operation.
    Heads lie outside pages: an index over pages serves every layer, and a run of pages is a plain (G, S, D) view.
    """

    def __init__(self, memory: Sequence[Memory], page_size: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.memory, self.page_size, self.dtype, self.device = list(memory), page_size, dtype, device
        self.pages = self.rows = 0
        self.moves = 0  # how often memory was replaced by more of it
        groups: dict[Memory, list[int]] = {}
        for layer, spec in enumerate(self.memory):
            groups.setdefault(spec, []).append(layer)
        self._groups = groups
        self._stacks: dict[tuple[Memory, str], Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        self.k: dict[int, Tensor] = {}
        self.v: dict[int, Tensor] = {}
        self.state: dict[int, Tensor] = {}

    @property
    def bytes(self) -> int:
        """Return the bytes now held."""
        return sum(stack.numel() * stack.element_size() for stack in self._stacks.values())

    def grow_pages(self, pages: int) -> None:
        """Make room for pages 1..`pages` beside the zero page; what is stored stays."""
        slots = (pages + 1) * self.page_size
        for spec, layers in self._groups.items():
            if isinstance(spec, PerToken):
                self._resize(spec, "k", (len(layers), spec.heads, slots, spec.k_dim), self.dtype, dim=2)
                if not spec.shared:
                    self._resize(spec, "v", (len(layers), spec.heads, slots, spec.v_dim), self.dtype, dim=2)
        self.pages = pages

    def grow_rows(self, rows: int) -> None:
        """Make room for `rows` states per recurrent layer; what is stored stays."""
        for spec, layers in self._groups.items():
            if isinstance(spec, PerSequence):
                # A float64 model keeps float64 state; the declared type is the least precision, not the most.
                dtype = torch.promote_types(spec.dtype, self.dtype)
                self._resize(spec, "state", (len(layers), rows, *spec.shape), dtype, dim=1)
        self.rows = rows

    def clear_page(self, page: int) -> None:
        """Zero a page: slots that nothing wrote must read as finite numbers, and never as someone else's text."""
        for stack in self._paged():
            stack[:, :, page * self.page_size : (page + 1) * self.page_size].zero_()

    def copy_page(self, source: int, target: int) -> None:
        """Copy a page in every layer."""
        size = self.page_size
        for stack in self._paged():
            stack[:, :, target * size : (target + 1) * size] = stack[:, :, source * size : (source + 1) * size]

    def clear_row(self, row: int) -> None:
        """Set the state of a row to zero, where every sequence starts."""
        for stack in self._stated():
            stack[:, row].zero_()

    def copy_row(self, source: int, target: int) -> None:
        """Copy the state of one row to another."""
        for stack in self._stated():
            stack[:, target] = stack[:, source]

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row's state."""
        return sum(stack[:, 0].numel() * stack.element_size() for stack in self._stated())

    def take_row(self, row: int) -> list[Tensor]:
        """Return a copy of a row's state, one tensor per shape."""
        return [stack[:, row].clone() for stack in self._stated()]

    def put_row(self, row: int, states: list[Tensor]) -> None:
        """Write back what `take_row` returned."""
        for stack, state in zip(self._stated(), states, strict=True):
            stack[:, row] = state

    def gather(self, x_GND: Tensor, units: Tensor, size: int, kind: str) -> Tensor:
        """Return units of `size` token slots, by head, as (units, size * D); the next call of a kind overwrites it.

        One buffer per kind: fresh memory of this size would cost more in page faults than the copy itself.
        """
        width = size * x_GND.shape[2]
        need = len(units) * width
        if kind not in self._buffers or self._buffers[kind].numel() < need:
            with torch.inference_mode(False):
                self._buffers[kind] = torch.empty(need, dtype=self.dtype, device=self.device)
        out = self._buffers[kind][:need].view(-1, width)
        return torch.index_select(x_GND.reshape(-1, width), 0, units, out=out)

    def dump(self, slots: Tensor, row: int) -> dict[str, Tensor]:
        """Return the contents of token slots (n,) and a state row, by layer, as CPU tensors."""
        out = {f"{i}.k": k[:, slots] for i, k in self.k.items()} | {f"{i}.v": v[:, slots] for i, v in self.v.items()}
        out |= {f"{i}.state": state[row] for i, state in self.state.items()}
        return {name: tensor.detach().clone().cpu() for name, tensor in out.items()}

    def load(self, tensors: dict[str, Tensor], slots: Tensor, row: int) -> None:
        """Write the tensors of `dump` to other slots; names and shapes must be those of this store."""
        want = self.dump(slots, row)
        if want.keys() != tensors.keys():
            raise UsageError(f"saved memory has {sorted(tensors)}, this model keeps {sorted(want)}")
        for name, old in want.items():
            new = tensors[name]
            if new.shape != old.shape or new.dtype != old.dtype:
                shapes = f"{new.dtype} {tuple(new.shape)}, not {old.dtype} {tuple(old.shape)}"
                raise UsageError(f"saved memory {name!r} is {shapes}")
            layer, kind = name.split(".")
            if kind == "state":
                self.state[int(layer)][row] = new.to(self.device)
            else:
                (self.k if kind == "k" else self.v)[int(layer)][:, slots] = new.to(self.device)

    def _paged(self) -> list[Tensor]:
        return [stack for (_, kind), stack in self._stacks.items() if kind != "state"]

    def _stated(self) -> list[Tensor]:
        return [stack for (_, kind), stack in self._stacks.items() if kind == "state"]

    def _resize(self, spec: Memory, kind: str, shape: tuple[int, ...], dtype: torch.dtype, *, dim: int) -> None:
        # Outside inference mode, so that a pool made within it can still be written without.
        with torch.inference_mode(False):
            new = torch.zeros(shape, dtype=dtype, device=self.device)
            old = self._stacks.get((spec, kind))
            if old is not None:
                new.narrow(dim, 0, old.shape[dim]).copy_(old)
        self._stacks[spec, kind] = new
        self.moves += 1
        views = {"k": self.k, "v": self.v, "state": self.state}[kind]
        for at, layer in enumerate(self._groups[spec]):
            views[layer] = new[at]
