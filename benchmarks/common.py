"""Two programs, one machine, one run: interleaved timing, so that the ratio means something where a time would not."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def interleave(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Time both in turn, after a warm-up of each; return the seconds of every round."""
    ours(), theirs()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        # Who goes first changes from round to round, so that a machine that slows down harms both alike.
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            (ours, theirs)[which]()
            times[which].append(time.perf_counter() - started)
    return times


def report(name: str, tokens: int, times: tuple[list[float], list[float]], *, as_json: bool) -> dict[str, Any]:
    """Print median tokens/s of both, and the median and range of the ratio of paired rounds."""
    speeds = [tokens / statistics.median(side) for side in times]
    ratios = sorted(theirs / ours for ours, theirs in zip(*times, strict=True))
    row = {
        "what": name,
        "hanok": round(speeds[0], 1),
        "transformers": round(speeds[1], 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
    }
    if as_json:
        print(json.dumps(row))
    else:
        low, high = row["ratio_range"]
        speed = f"{speeds[0]:>9,.0f} {speeds[1]:>9,.0f} tokens/s"
        print(f"{name:<48} {speed}   {row['ratio']:.2f} x  ({low:.2f} .. {high:.2f})")
    return row


def arguments(description: str, **more: str) -> argparse.Namespace:
    """Return the options that every benchmark has, and `more` with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    for name, default in more.items():
        parser.add_argument(f"--{name}", default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def twins(**shape: int) -> tuple[Any, Any]:
    """Return one random LLaMA twice: as hanok's LLM and as transformers' model, with the same weights."""
    import transformers

    import hanok

    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(tie_word_embeddings=True, max_position_embeddings=1024, **shape)
    theirs = transformers.LlamaForCausalLM(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return hanok.load(Path(folder)), theirs


SMALL = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MEDIUM = {
    "vocab_size": 4096,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}
