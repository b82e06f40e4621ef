"""`hanok bench latency` and `hanok bench throughput`: one batch from start to end, and many requests at once."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hanok.engine.local import LLM
from hanok.recipes.bench.figures import Sample, spread
from hanok.recipes.bench.runner import Hanok, Runner, Transformers, in_turn
from hanok.recipes.bench.subject import check_lengths, prompts

PERCENTILES = (10.0, 25.0, 50.0, 75.0, 90.0, 99.0)


@dataclass(frozen=True)
class Load:
    """How many prompts of which length are answered with how many tokens, and how often that is measured."""

    count: int
    input_len: int
    output_len: int
    rounds: int = 5
    warmup: int = 1
    seed: int = 0


def measure(llm: LLM, load: Load, runners: Mapping[str, Runner]) -> dict[str, list[list[Sample]]]:
    """Return the samples of each round by runner, all of which answer the same prompts."""
    check_lengths(llm.config.context, load.input_len, load.output_len)
    draw = random.Random(load.seed)
    inputs = partial(prompts, load.count, load.input_len, llm.config.vocab, draw)
    return in_turn(runners, inputs, load.output_len, rounds=load.rounds, warmup=load.warmup)


def runners_of(llm: LLM, settings: Mapping[str, Any], *, peers: bool) -> dict[str, Runner]:
    """Return hanok, and transformers beside it if peers are asked for."""
    found: dict[str, Runner] = {"hanok": Hanok(llm, settings)}
    if peers:
        found[Transformers.name] = Transformers(llm)
    return found


def latency_figures(rounds: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """Return the figures of rounds of one batch each: `avg_latency` and `percentiles` in seconds, the rest as named."""
    whole = [max(sample.e2el for sample in batch) for batch in rounds]
    samples = [sample for batch in rounds for sample in batch]
    written = statistics.median(sum(sample.output_tokens for sample in batch) for batch in rounds)
    return {
        "avg_latency": statistics.fmean(whole),
        "latencies": whole,
        "percentiles": {f"{p:g}": float(np.percentile(whole, p)) for p in PERCENTILES},
        **spread([sample.ttft for sample in samples], "ttft"),
        **spread([gap for sample in samples for gap in sample.itl], "itl"),
        **spread([sample.tpot for sample in samples if sample.tpot is not None], "tpot"),
        **spread([sample.e2el for sample in samples], "e2el"),
        "output_throughput": written / statistics.median(whole),
    }


def throughput_figures(rounds: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """Return the figures of the median round: requests and tokens per second."""
    times = [max(s.arrivals[-1] for s in batch) - min(s.sent for s in batch) for batch in rounds]
    elapsed = statistics.median(times)
    batch = rounds[0]
    read, written = sum(s.prompt_tokens for s in batch), sum(s.output_tokens for s in batch)
    return {
        "elapsed_time": elapsed,
        "elapsed_times": times,
        "num_requests": len(batch),
        "total_num_tokens": read + written,
        "requests_per_second": len(batch) / elapsed,
        "tokens_per_second": (read + written) / elapsed,
        "output_throughput": written / elapsed,
    }


def ratios(found: Mapping[str, Sequence[Sequence[Sample]]], ours: str = "hanok") -> dict[str, dict[str, float]]:
    """Return how many times as long each peer took, by paired rounds: the median and the range."""

    def seconds(batch: Sequence[Sample]) -> float:
        return max(s.arrivals[-1] for s in batch) - min(s.sent for s in batch)

    out = {}
    for name, rounds in found.items():
        if name != ours:
            pairs = [seconds(theirs) / seconds(own) for own, theirs in zip(found[ours], rounds, strict=True)]
            out[name] = {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
    return out


def latency_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the figures of a latency run as people read them."""
    rows = [f"Avg latency: {found['avg_latency']:.4f} seconds"]
    rows += [f"{percent}% percentile latency: {value:.4f} seconds" for percent, value in found["percentiles"].items()]
    for name in ("ttft", "itl", "tpot"):
        if f"median_{name}_ms" in found:
            middle, high = found[f"median_{name}_ms"], found[f"p99_{name}_ms"]
            rows.append(f"{name.upper()}: median {middle:.2f} ms, p99 {high:.2f} ms")
    return [*rows, f"Output: {found['output_throughput']:.1f} tokens/s"]


def throughput_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the figures of a throughput run in one line."""
    return [
        f"Throughput: {found['requests_per_second']:.2f} requests/s, {found['tokens_per_second']:.2f} total tokens/s, "
        f"{found['output_throughput']:.2f} output tokens/s"
    ]
