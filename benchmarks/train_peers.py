"""Training tokens per second against each peer's best setting: precision and compilation of each, interleaved.

Shapes are LLaMA-style models of 12 and 30 million parameters at sequence lengths 256 and 512. Peers are transformers
(LlamaForCausalLM), a plain GPT loop in the manner of nanoGPT (LayerNorm, GELU, learned positions, SDPA, weights tied,
a head over all tokens; widened to the same number of parameters), and litgpt where it is installed. All train with
AdamW, clip at 1, and read the loss once a step.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from common import arguments
from torch import Tensor, nn

import hanok
from hanok.core.rng import Streams
from hanok.model.size import count_model
from hanok.ops.peak import matmul_peak
from hanok.train.allocator import keep_freed_memory
from hanok.train.compile import compiled
from hanok.train.loop import LoopConfig, computing, update
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.plan.example import Copies, next_tokens
from hanok.train.state import TrainState


class Shape(NamedTuple):
    """A model's sizes and what a step reads."""

    vocab: int
    dim: int
    layers: int
    heads: int
    hidden: int
    batch: int
    length: int


SHAPES = {
    "12M-256": Shape(4096, 384, 6, 6, 1024, 8, 256),
    "12M-512": Shape(4096, 384, 6, 6, 1024, 4, 512),
    "30M-256": Shape(8192, 512, 8, 8, 1408, 4, 256),
    "30M-512": Shape(8192, 512, 8, 8, 1408, 2, 512),
}
Step = Callable[[], object]


def rows(shape: Shape) -> Tensor:
    return torch.randint(0, shape.vocab, (shape.batch, shape.length + 1), generator=torch.Generator().manual_seed(0))


def ours(shape: Shape, precision: str, compile: bool) -> Step:
    """Return a step of hanok's own loop."""
    layer = {
        "mixer": {"kind": "gqa", "heads": shape.heads, "kv_heads": shape.heads},
        "ffn": {"kind": "swiglu", "hidden": shape.hidden},
    }
    sizes = {"vocab": shape.vocab, "dim": shape.dim, "depth": shape.layers, "embeddings": "tied"}
    model = hanok.Model(hanok.ModelConfig(**sizes, layers={"block": layer}))  # type: ignore[arg-type]
    config = LoopConfig(compute=precision)  # type: ignore[arg-type]
    state = TrainState(
        model,
        AdamW(AdamWConfig(lr=1e-4), model),
        Copies(next_tokens(shape.vocab, shape.batch, shape.length)),
        1,
        rng=Streams(0),
    )
    state.forward = compiled(model) if compile else None
    objective = NextToken(NextToken.Config())

    def step() -> None:
        with computing(config):
            update(state, objective, config, 1.0)

    return step


def plain_step(model: nn.Module, loss_of: Callable[[Tensor], Tensor], shape: Shape, precision: str) -> Step:
    """Return a step as the peers' users write it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = rows(shape)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def with_transformers(shape: Shape, precision: str, compile: bool) -> Step:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.dim,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.length,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config).train()
    forward = torch.compile(model) if compile else model
    return plain_step(model, lambda t: forward(input_ids=t[:, :-1], labels=t[:, :-1]).loss, shape, precision)


class PlainBlock(nn.Module):
    """A GPT-2 block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PlainGPT(nn.Module):
    """A GPT-2 of the usual small training scripts."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(shape.vocab, shape.dim), nn.Embedding(shape.length, shape.dim)
        self.blocks = nn.ModuleList(PlainBlock(shape.dim, shape.heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        x = self.tokens(rows[:, :-1]) + self.places(torch.arange(rows.shape[1] - 1))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def with_plain_gpt(shape: Shape, precision: str, compile: bool) -> Step:
    model = PlainGPT(shape)
    return plain_step(model, torch.compile(model) if compile else model, shape, precision)


def with_litgpt(shape: Shape, precision: str, compile: bool) -> Step:
    from litgpt import GPT, Config  # type: ignore[import-not-found]

    config = Config(
        n_layer=shape.layers,
        n_embd=shape.dim,
        n_head=shape.heads,
        block_size=shape.length,
        padded_vocab_size=shape.vocab,
        vocab_size=shape.vocab,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=shape.hidden,
    )
    model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight
    forward = torch.compile(model) if compile else model

    def loss(tokens: Tensor) -> Tensor:
        return F.cross_entropy(forward(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    return plain_step(model, loss, shape, precision)


PROGRAMS: dict[str, Callable[[Shape, str, bool], Step]] = {
    "hanok": ours,
    "transformers": with_transformers,
    "plain GPT loop": with_plain_gpt,
    "litgpt": with_litgpt,
}


def measure(shape: Shape, rounds: int, precisions: list[str], programs: list[str]) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each round, by program and setting; all are timed in turn."""
    steps: dict[tuple[str, str], Step] = {}
    for name, precision, compile in itertools.product(programs, precisions, (False, True)):
        try:
            step = PROGRAMS[name](shape, precision, compile)
        except ImportError:
            continue
        torch.manual_seed(0)
        for _ in range(2):
            step()
        steps[name, f"{precision}{' compiled' if compile else ''}"] = step
    times: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for key in list(steps) if number % 2 else list(reversed(steps)):
            started = time.perf_counter()
            steps[key]()
            times.setdefault(key[0], {}).setdefault(key[1], []).append(time.perf_counter() - started)
    return times


def main() -> None:
    options = arguments(
        __doc__ or "", shapes=",".join(SHAPES), precisions="float32,bfloat16", programs=",".join(PROGRAMS)
    )
    keep_freed_memory()
    for name in options.shapes.split(","):
        shape = SHAPES[name]
        times = measure(shape, options.rounds, options.precisions.split(","), options.programs.split(","))
        best = {who: min(found, key=lambda how: statistics.median(found[how])) for who, found in times.items()}
        row: dict[str, Any] = {"what": name}
        for who, found in times.items():
            for how, seconds in found.items():
                row[f"{who}, {how}"] = round(shape.batch * shape.length / statistics.median(seconds))
        mine = times["hanok"][best["hanok"]]
        for who in times.keys() - {"hanok"}:
            ratios = [theirs / our for our, theirs in zip(mine, times[who][best[who]], strict=True)]
            row[f"ratio to {who}'s best"] = round(statistics.median(ratios), 3)
        row |= utilisation(shape, statistics.median(mine), best["hanok"])
        print(json.dumps(row) if options.json else "\n".join(f"{key:<44} {value}" for key, value in row.items()) + "\n")


def utilisation(shape: Shape, seconds: float, how: str) -> dict[str, Any]:
    """Return the share of the measured matmul peak that our best setting reaches."""
    layer = {"mixer": {"kind": "gqa", "heads": shape.heads}, "ffn": {"kind": "swiglu", "hidden": shape.hidden}}
    sizes = {"vocab": shape.vocab, "dim": shape.dim, "depth": shape.layers, "embeddings": "tied"}
    model = hanok.Model(hanok.ModelConfig(**sizes, layers={"block": layer}), device="meta")  # type: ignore[arg-type]
    flops = count_model(model).training_flops_per_token(shape.length) * shape.batch * shape.length
    peak = matmul_peak(torch.bfloat16 if how.startswith("bfloat16") else torch.float32)
    return {"parameters": count_model(model).params, "mfu": round(flops / seconds / peak, 3), "best": how}


if __name__ == "__main__":
    main()
