"""Decode and prefill of a 100 M LLaMA with its weights in fp32, bf16, int8 and int4, against transformers in fp32.

Each row is one interleaved run. `read` is the bytes of weights that a decode step reads, times steps per second, and
`of` its share of what summing a large tensor reads per second in the same run; with several streams weights are read
once for all of them. `exact` compares exact numerics by the kernels with exact numerics in torch's tiles.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import torch
from common import arguments, interleave, report, twins

import hanok
from hanok.model.packing import pack_weights
from hanok.nn.linear import Linear
from hanok.ops import native

SHAPE = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
}
PROMPT = 16


def ours(llm: Any, prompts: torch.Tensor, new: int, numerics: str = "fast") -> list[list[int]]:
    """Answer every prompt greedily through hanok's engine."""
    requests = [hanok.Request(row, new, temperature=0.0, ignore_eos=True) for row in prompts.tolist()]
    engine = hanok.Engine(llm, numerics=numerics, chunk=512, prefix_cache=False)
    return [output.tokens for output in engine.generate(requests)]


@torch.inference_mode()
def theirs(model: Any, prompts: torch.Tensor, new: int) -> list[list[int]]:
    """Answer every prompt greedily through transformers' generate."""
    length = {"max_new_tokens": new, "min_new_tokens": new}
    out: torch.Tensor = model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, **length)
    return out[:, prompts.shape[1] :].tolist()


def weight_bytes(model: torch.nn.Module) -> int:
    """Return the bytes that one step reads of the products' weights."""
    linears = [part for part in model.modules() if isinstance(part, Linear)]
    return sum(tensor.nbytes for part in linears for tensor in [*part.parameters(), *part.buffers()])


def bandwidth(rounds: int) -> float:
    """Return the bytes per second at which a tensor larger than any cache is summed: the median."""
    large, times = torch.ones(1 << 26), []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        large.sum()
        times.append(time.perf_counter() - started)
    return large.nbytes / statistics.median(times[1:])


def race(llm: Any, weights: str, model: Any, options: Any) -> None:
    """Time one format: one stream, several, and a long prompt."""
    new = int(options.new)
    for streams in map(int, options.streams.split(",")):
        prompts = torch.randint(3, 32000, (streams, PROMPT))
        times = interleave(lambda p=prompts: ours(llm, p, new), lambda p=prompts: theirs(model, p, new), options.rounds)
        report(f"decode {weights}, {streams} streams", streams * new, times, as_json=options.json)
        read, most = weight_bytes(llm.model) * new / statistics.median(times[0]), bandwidth(options.rounds)
        print(f"{'':<48} read {read / 1e9:.1f} GB/s of {most / 1e9:.1f}: {read / most:.0%}")
    prompts = torch.randint(3, 32000, (1, 512))
    times = interleave(lambda: ours(llm, prompts, 1), lambda: theirs(model, prompts, 1), options.rounds)
    report(f"prefill {weights}, 512 tokens", 512, times, as_json=options.json)


def exact(llm: Any, options: Any) -> None:
    """Time exact numerics by the kernels (first column) and in tiles (second)."""
    library = native.kernels()
    for streams in map(int, options.streams.split(",")):
        prompts, new = torch.randint(3, 32000, (streams, PROMPT)), int(options.new)

        def run(with_library: Any, p: torch.Tensor = prompts, new: int = new) -> None:
            with native.used(with_library):
                ours(llm, p, new, "exact")

        times = interleave(lambda: run(library), lambda: run(None), options.rounds)
        report(f"exact: kernels, tiles; {streams} streams", streams * new, times, as_json=options.json)


def main() -> None:
    options = arguments(__doc__ or "", weights="fp32,bf16,int8,int4", streams="1,8,32", new="32", exact="yes")
    if not native.prepare(wait=True):
        print(f"without kernels: {native.status()}")
    llm, model = twins(**SHAPE)
    model.generation_config.pad_token_id = 0
    for weights in options.weights.split(","):
        packed = copy.deepcopy(llm)
        pack_weights(packed.model, weights)
        race(packed, weights, model, options)
    if options.exact == "yes":
        exact(llm, options)


if __name__ == "__main__":
    main()
