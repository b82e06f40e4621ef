"""Activation checkpointing: blocks that keep nothing but their input, and are computed again when it is their turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from hanok.model.block import Block
from hanok.nn.router import tally
from hanok.ops import numerics


@contextmanager
def recomputing(model: nn.Module, every: int) -> Iterator[None]:
    """Let every `every`-th block of the model's stacks be computed twice inside the `with` block; 0 means none.

    The second time gives the same bits as the first, so that gradients do too: random numbers, numerics and the format
    of products are those of the first. Routers report to a tally of their own, and count nothing twice.
    (Chen et al. 2016, arXiv 1604.06174: with every block, memory for activations falls to one block's and one state per
    layer, for one more forward pass.)
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)][::every] if every else []
    for block in blocks:
        # The attribute of the instance stands before that of its class, and names of parameters stay as they are.
        twice = partial(checkpoint, block.forward, use_reentrant=False, context_fn=_contexts)
        block.__dict__["forward"] = twice
    try:
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return what surrounds the first and the second computation.

    On a GPU the second one runs in another thread, which has none of the settings of this one.
    """
    again = ExitStack()
    mode, reporting = numerics.current(), tally.current() is not None

    @contextmanager
    def as_before() -> Iterator[None]:
        with again:
            again.enter_context(numerics.numerics(mode))
            if reporting:
                again.enter_context(tally.tallying(again=True))
            yield

    return ExitStack(), as_before()
