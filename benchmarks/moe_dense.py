"""A mixture of experts against a dense network of equal active size, and against transformers' Mixtral block.

Times are CPU seconds of the process, which a busy machine disturbs less than those of the clock: use one thread.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from common import arguments
from torch import Tensor, nn
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from hanok.nn.ffn.moe import MoE
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.ops.numerics import numerics

DIM, HIDDEN = 256, 352
SHAPES = {"8 experts, top-2": (8, 2), "64 experts, top-8": (64, 8)}


def build(experts: int, k: int) -> tuple[MoE, nn.Module, nn.Module]:
    """Return a mixture, transformers' block with its weights, and a dense network as wide as k experts."""
    width = HIDDEN * 2 // k  # the same active width for both shapes
    words = {
        "experts": experts,
        "router": {"kind": "topk", "per_token": k},
        "expert": {"kind": "swiglu", "hidden": width},
    }
    ours, dense = MoE(MoE.Config.parse(words), DIM), SwiGLU(SwiGLU.Config(hidden=width * k), DIM)
    for parameter in (*ours.parameters(), *dense.parameters()):
        nn.init.normal_(parameter, std=DIM**-0.5)
    config = transformers.MixtralConfig(
        hidden_size=DIM, intermediate_size=width, num_local_experts=experts, num_experts_per_tok=k
    )
    config._experts_implementation = "eager"
    theirs = MixtralSparseMoeBlock(config)
    stacked = ours.state_dict()
    theirs.load_state_dict(
        {
            "gate.weight": stacked["router.weight"],
            "experts.gate_up_proj": torch.cat([stacked["experts.gate.weight"], stacked["experts.up.weight"]], 1),
            "experts.down_proj": stacked["experts.down.weight"],
        }
    )
    return ours, theirs, dense


def forward(module: nn.Module, x: Tensor, mode: str) -> Callable[[], object]:
    """Return a forward without gradients."""

    @torch.inference_mode()
    def run() -> object:
        with numerics(mode):
            return module(x)

    return run


def training(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a forward and backward, with the gradient of the input too."""
    x = x.clone().requires_grad_()

    def run() -> object:
        module.zero_grad()
        return module(x).square().sum().backward()

    return run


def interleave(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Time both in turn, after a warm-up of each, several runs to a round where a run is short."""
    times: tuple[list[float], list[float]] = ([], [])
    started = time.process_time()
    ours(), theirs()
    runs = max(1, int(0.02 / (time.process_time() - started)))
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.process_time()
            for _ in range(runs):
                (ours, theirs)[which]()
            times[which].append((time.process_time() - started) / runs)
    return times


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], options: Any) -> None:
    """Print how many times the other one's time ours takes, the median and range over paired rounds."""
    times = interleave(ours, theirs, options.rounds)
    ratios = sorted(a / b for a, b in zip(*times, strict=True))
    medians = [1000 * statistics.median(side) for side in times]
    row = {"what": name, "ours_ms": medians[0], "theirs_ms": medians[1], "ratio": statistics.median(ratios)}
    if options.json:
        print(json.dumps(row | {"range": [ratios[0], ratios[-1]]}))
    else:
        spread = f"({ratios[0]:.2f} .. {ratios[-1]:.2f})"
        print(f"{name:<60} {medians[0]:8.2f} {medians[1]:8.2f} ms   {row['ratio']:.2f} x time  {spread}")


def main() -> None:
    options = arguments(__doc__ or "")
    for shape, (experts, k) in SHAPES.items():
        ours, theirs, dense = build(experts, k)
        for other, module in (("dense", dense), ("transformers", theirs)):
            for tokens in (1, 32, 2048):
                x = torch.randn(1, tokens, DIM)
                compare(
                    f"{shape}, {tokens} tokens, forward / {other}",
                    forward(ours, x, "fast"),
                    forward(module, x, "fast"),
                    options,
                )
            compare(f"{shape}, 2048 tokens, training / {other}", training(ours, x), training(module, x), options)
        for tokens in (1, 32, 2048):
            x = torch.randn(1, tokens, DIM)
            compare(
                f"{shape}, {tokens} tokens, exact / dense exact",
                forward(ours, x, "exact"),
                forward(dense, x, "exact"),
                options,
            )


if __name__ == "__main__":
    main()
