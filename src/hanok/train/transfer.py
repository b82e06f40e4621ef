"""Learning rates that carry over from a small model to a large one: muP, by the shapes of the parameters alone.

The small model (the base) is the same architecture with other widths and depth. Every parameter is held against its
namesake there, so that nothing has to know what a mixer does with it. In the scaling limit of wide networks each layer
then goes on learning at the rate at which it learns in the base (Yang et al. 2022, arXiv:2203.03466, table 8; for
Muon: Yang et al. 2023, arXiv:2310.17813; over depth: Dey et al. 2025, arXiv:2505.01618). With n the growth of a
matrix's inputs, and rates as for Adam:

    parameter                           initial deviation    rate
    matrix inside                       1 / sqrt(n)          1 / n
    head                                1 / n                1 / n
    embedding, tables, norms, biases    1                    1
    tied embedding                      1                    1       and logits divided by n

Where a mixer's score scale shrank with its heads (1 / sqrt(d)), it becomes 1 / d. Over depth, branches are multiplied
by (base depth / depth)^power. What a width of 1 times the base gives is the base, to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from hanok.core.config import Config, PartConfig
from hanok.core.errors import UsageError
from hanok.model.config import BlockConfig, ModelConfig, StackConfig
from hanok.model.depths import Depths
from hanok.model.init import RESIDUAL
from hanok.model.model import Model
from hanok.nn.linear import Linear
from hanok.nn.router.base import Router
from hanok.train.optim.base import Growth, Slot, slots


class TransferConfig(Config):
    """The model on which the learning rates were found: `dials` of the same preset, or a whole `model`.

    `power` is how branches shrink with depth: 1 keeps what a layer learns (CompleteP), 0.5 only the stream's size, and
    then rates inside layers fall as 1 / sqrt(depth) too.
    """

    dials: dict[str, int] = {}
    model: ModelConfig | None = None
    power: float = Field(1.0, ge=0.5, le=1)


def adapted(config: ModelConfig, base: ModelConfig, power: float = 1.0) -> ModelConfig:
    """Return a config whose multipliers are those of the base at this size."""
    changes: dict[str, Any] = _stack(config, base, power)
    if config.encoder is not None and base.encoder is not None:
        changes["encoder"] = config.encoder.model_copy(update=_stack(config.encoder, base.encoder, power))
    changes["embed"] = config.embed.model_copy(update={"scale": base.embed.scale})
    if config.embeddings == "tied" and config.head is not None:
        growth = (config.embed.width or config.dim) / (base.embed.width or base.dim)
        changes["head"] = config.head.model_copy(update={"scale": config.head.scale / growth})
    return config.model_copy(update=changes)


def growths(model: Model, base: ModelConfig, power: float = 1.0) -> dict[str, Growth]:
    """Return by name how each trainable parameter differs from its namesake in the base."""
    depths: dict[str, Any] = {"depth": model.config.depth}
    if model.config.encoder is not None and base.encoder is not None:
        depths["encoder"] = base.encoder.model_copy(update={"depth": model.config.encoder.depth})
    small = dict(Model(base.model_copy(update=depths), device="meta").named_parameters())
    found = {}
    for slot in slots(model):
        if slot.name not in small or small[slot.name].ndim != slot.parameter.ndim:
            raise UsageError(f"transfer: the base model has no {slot.name!r}: it must differ in widths and depth alone")
        found[slot.name] = _growth(slot, small[slot.name].shape, model, _deeper(slot.name, model, base) ** (power - 1))
    return found


@torch.no_grad()
def restart(model: Model, base: ModelConfig, grown: dict[str, Growth]) -> None:
    """Rescale weights as they were drawn (deviation 1 / sqrt(inputs), shrinking with depth) to those of the base."""
    for name, module in model.named_modules():
        if isinstance(module, Linear) and name.rpartition(".")[2] in RESIDUAL:
            module.weight.mul_(_deeper(f"{name}.weight", model, base) ** 0.5)
    for slot in slots(model):
        growth = grown[slot.name]
        if slot.owner is model.embed and slot.parameter is model.embed.weight:
            slot.parameter.mul_((slot.parameter.shape[1] / (base.embed.width or base.dim)) ** 0.5)
        elif _is_matrix(slot):
            slot.parameter.mul_(growth.start * growth.inputs**0.5)


def _growth(slot: Slot, before: torch.Size, model: Model, pace: float) -> Growth:
    if not _is_matrix(slot):
        return Growth(pace=pace)
    inputs, outputs = (slot.parameter.shape[axis] / before[axis] for axis in (-1, -2))
    return Growth(inputs, outputs, inputs**-1 if slot.owner is model.head else inputs**-0.5, pace)


def _is_matrix(slot: Slot) -> bool:
    """Return whether a parameter multiplies activations, so that a step's effect adds up over its inputs."""
    return isinstance(slot.owner, Linear | Router | Depths) and slot.parameter.ndim > 1 and not _is_bias(slot)


def _is_bias(slot: Slot) -> bool:
    return slot.name.rpartition(".")[2] == "bias"  # those of stacked experts have two dimensions


def _deeper(name: str, model: Model, base: ModelConfig) -> float:
    """Return how many times deeper than in the base the stack of a parameter is; 1 outside the stacks."""
    if name.startswith("blocks."):
        return model.config.depth / base.depth
    if name.startswith("encoder.blocks.") and model.config.encoder is not None and base.encoder is not None:
        return model.config.encoder.depth / base.encoder.depth
    return 1.0


def _stack(config: StackConfig, base: StackConfig, power: float) -> dict[str, Any]:
    if config.pattern != base.pattern or config.layers.keys() != base.layers.keys():
        raise UsageError("transfer: the base model must have the same layer templates in the same pattern")
    shrink = (base.depth / config.depth) ** power
    return {"layers": {name: _block(block, base.layers[name], shrink) for name, block in config.layers.items()}}


def _block(block: BlockConfig, base: BlockConfig, shrink: float) -> BlockConfig:
    changes: dict[str, Any] = {"residual": block.residual * shrink}
    for name in ("mixer", "cross"):
        part, before = getattr(block, name), getattr(base, name)
        if isinstance(part, PartConfig) and "scale" in type(part).model_fields:
            wide, narrow = part.model_dump()["scale"], before.model_dump().get("scale")
            if wide and narrow:  # 1 / sqrt(d) in both: its square over that of the base falls as 1 / d
                changes[name] = part.model_copy(update={"scale": wide * (wide / narrow)})
    return block.model_copy(update=changes)
