"""Time to first token with and without a prefix hit: the same prompts, the same engine but for its cache, in turn."""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import hanok
from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model

MODELS = {"attention": "llama-tiny", "recurrent": "rglru-tiny", "hybrid": "griffin-tiny"}
OWN = 32  # tokens of each prompt that no other one has


def first_token(engine: hanok.Engine, prompt: list[int]) -> float:
    """Return the seconds from the request to its first token."""
    started = time.perf_counter()
    engine.generate([hanok.Request(prompt, 1, temperature=0.0)])
    return time.perf_counter() - started


def compare(name: str, llm: LLM, shared: int, options: argparse.Namespace) -> None:
    """Print the median of both, and the median and range of the ratio of paired rounds."""
    warm = hanok.Engine(llm, numerics=options.numerics)
    cold = hanok.Engine(llm, numerics=options.numerics, prefix_cache=False)
    text = torch.randint(0, llm.model.config.vocab, (shared,)).tolist()
    times: dict[str, list[float]] = {"hit": [], "miss": []}
    for number in range(options.rounds + 2):
        prompt = text + torch.randint(0, llm.model.config.vocab, (OWN,)).tolist()
        for which in ("hit", "miss") if number % 2 else ("miss", "hit"):
            seconds = first_token(warm if which == "hit" else cold, prompt)
            if number > 1:  # the first fill the cache, and for a recurrent model show where to keep a state
                times[which].append(seconds)
    ratios = sorted(miss / hit for hit, miss in zip(times["hit"], times["miss"], strict=True))
    hit, miss = (1000 * statistics.median(times[which]) for which in ("hit", "miss"))
    print(
        f"{name:<10} {shared:>5} shared tokens: {hit:8.1f} ms with, {miss:8.1f} ms without   "
        f"{statistics.median(ratios):.1f} x  ({ratios[0]:.1f} .. {ratios[-1]:.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--numerics", default="fast", choices=("fast", "exact"))
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--depth", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, preset in MODELS.items():
        config = ModelConfig.preset(preset, vocab=1024, context=2048, dim=options.dim, depth=options.depth)
        llm = LLM(Model(config, seed=0))
        for shared in (128, 512, 1536):
            compare(name, llm, shared, options)


if __name__ == "__main__":
    main()
