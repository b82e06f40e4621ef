"""Parameters, operations, memory, time and cost of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.size import count
from hanok.train.config import TrainingConfig
from hanok.train.plan.hardware import Hardware
from hanok.train.plan.memory import need
from hanok.train.plan.trial import seconds_per_step

DAY = 86400


@dataclass(frozen=True)
class Means:
    """What a run may use: `devices` of one kind at a share `mfu` of their peak, each at `price` an hour.

    Without `mfu`, a few steps are timed here, which is only right for the machine this runs on.
    """

    hardware: Hardware
    devices: int = 1
    mfu: float | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        share = 1 if self.mfu is None else self.mfu
        if self.devices < 1 or not 0 < share <= 1 or (self.price is not None and self.price < 0):
            raise UsageError("a plan needs at least one device, 0 < mfu <= 1, and a price of at least 0")


def forecast(model: ModelConfig, config: TrainingConfig, tokens: float, means: Means) -> dict[str, Any]:
    """Return what training on so many tokens takes.

    FLOPs are counted by structure, forward and backward, with attention over half the length; time is FLOPs over
    devices x peak x mfu, as in PaLM (Chowdhery et al. 2022, appendix B), or measured. Rows of a step are spread over
    the devices, each of which holds the whole model: a plan that does not fit says so.
    """
    if config.batch % means.devices:
        raise UsageError(f"batch {config.batch} cannot be spread evenly over {means.devices} devices")
    rows = config.batch * config.loop.accumulate
    share = config.model_copy(update={"batch": config.batch // means.devices})
    size, memory = count(model), need(model, share)
    per_step = rows * config.length
    flops = size.training_flops_per_token(config.length)
    peak = means.devices * means.hardware.flops
    if means.mfu is not None:
        speed = peak * means.mfu / flops
    elif memory.peak <= means.hardware.memory:
        speed = rows * config.length / seconds_per_step(model, share)
    else:
        raise UsageError(f"{memory.peak / 2**30:.1f} GiB do not fit this machine: give --mfu to plan without trying it")
    hours = tokens / speed / 3600
    found: dict[str, Any] = {
        "parameters": size.params,
        "active_parameters": size.params_active,
        "tokens": tokens,
        "tokens_per_parameter": tokens / size.params,
        "flops_per_token": flops,
        "flops": flops * tokens,
        "steps": -(-int(tokens) // per_step),
        "tokens_per_step": per_step,
        "weights_bytes": memory.weights,
        "optimizer_bytes": memory.optimizer,
        "average_bytes": memory.average,
        "passing_bytes": memory.passing,
        "peak_bytes": memory.peak,
        "fits": memory.peak <= means.hardware.memory,
        "hardware": f"{means.devices} x {means.hardware.name}",
        "peak_flops": means.hardware.flops,
        "source": means.hardware.source,
        "mfu": speed * flops / peak,
        "measured": means.mfu is None,
        "tokens_per_second": speed,
        "step_seconds": per_step / speed,
        "hours": hours,
        "device_hours": hours * means.devices,
    }
    return found | ({} if means.price is None else {"cost": hours * means.devices * means.price})
