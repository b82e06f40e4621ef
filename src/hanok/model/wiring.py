"""How a block's branches sit on the residual stream: which norms there are, and in what order things are added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from hanok.ops.add import add

Wiring = Literal["pre", "post", "sandwich", "branch", "parallel", "parallel_norms"]
Branches = Mapping[str, Callable[[Tensor], Tensor]]
Norms = Mapping[str, Callable[[Tensor], Tensor]]


def norm_names(wiring: Wiring, branches: list[str]) -> list[str]:
    """Return the names of the norms that a block with these branches has."""
    first = [f"{branch}_norm" for branch in (branches[:1] if wiring == "parallel" else branches)]
    return first + ([f"{branch}_after" for branch in branches] if wiring == "sandwich" else [])


def add_up(wiring: Wiring, x: Tensor, branches: Branches, norms: Norms, scale: float) -> Tensor:
    """Return the residual stream x (B,T,dim) after a block whose branches are multiplied by `scale`.

    pre: x + f(norm(x)) (Xiong et al. 2020, arXiv 2002.04745). post: norm(x + f(x)) (Vaswani et al. 2017).
    sandwich: x + after(f(norm(x))) (Ding et al. 2021, arXiv 2105.13290; Gemma 2). branch: x + norm(f(x)) (OLMo 2).
    parallel: x + f(norm(x)) + g(norm(x)) with one norm (GPT-J, PaLM); parallel_norms: with a norm each (GPT-NeoX).
    """
    if wiring in ("parallel", "parallel_norms"):
        shared = norms["mixer_norm"](x) if wiring == "parallel" else None
        total = x
        for name, branch in branches.items():
            inner = shared if shared is not None else norms[f"{name}_norm"](x)
            total = add(total, _scaled(branch(inner), scale))
        return total
    for name, branch in branches.items():
        norm = norms[f"{name}_norm"]
        if wiring == "post":
            x = norm(add(x, _scaled(branch(x), scale)))
        elif wiring == "branch":
            x = add(x, _scaled(norm(branch(x)), scale))
        elif wiring == "sandwich":
            x = add(x, _scaled(norms[f"{name}_after"](branch(norm(x))), scale))
        else:
            x = add(x, _scaled(branch(norm(x)), scale))
    return x


def _scaled(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1.0 else x * scale
