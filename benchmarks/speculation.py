"""What guessing ahead saves on one stream: a target and a small draft, both trained here on Python's documentation.

Both models come out of hanok's own data and pre-training stages, and are kept in `--folder`. The draft then learns from
what the target writes behind other beginnings (as in DistillSpec, Zhou et al. 2023, arXiv 2310.08461; `--distil 0`: it
does not). Every way of guessing is timed against the same engine without guesses, in turn; greedy texts are compared
token by token.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from pydoc_data import topics
from typing import Any

import torch
import torch.nn.functional as F
from common import arguments, interleave

import hanok
from hanok.core.artifact import Artifact
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.ops import native
from hanok.text.data.prepare import DataConfig
from hanok.text.stages import DATA
from hanok.train.allocator import keep_freed_memory
from hanok.train.stages import PRETRAIN, PretrainConfig

TARGET = {"depth": 8, "heads": 4, "kv_heads": 2}
DRAFT = {"dim": 128, "depth": 1, "heads": 4, "kv_heads": 2}
PROMPTS = [
    "Return a list of the names of all ",
    "This module provides a class for ",
    "Raise an exception if the ",
    "The optional argument is used to ",
]
NEW = 96


def trained(folder: Path, dials: dict[str, int], steps: int) -> Path:
    """Return a model's folder, trained for so many steps unless that was done before."""
    log, quiet = Log(quiet=True), {"resume": "auto"}
    corpus = DataConfig.parse({"vocab_size": 1024, "tasks": [], "max_bytes": 6_000_000})
    data: Artifact = run_stage(DATA, corpus.pin(), {}, folder, log=log, **quiet)  # type: ignore[arg-type]
    config = PretrainConfig(preset="llama-tiny", dials=dials, steps=steps, batch=8, length=128)
    made = run_stage(PRETRAIN, config, {"tokens": data.path}, folder, log=log, **quiet)  # type: ignore[arg-type]
    return made.path


def distilled(target: Path, draft: Path, texts: int) -> Path:
    """Return the draft's folder after it has read so many of the target's own continuations of documentation."""
    made = draft.with_name(f"{draft.name}-distilled-{target.name}-{texts}")
    if not texts or made.exists():
        return made if texts else draft
    llm, small = hanok.load(target), hanok.load(draft)
    pieces = [text for text in topics.topics.values() if len(text) > 400]
    draw = random.Random(0)
    starts = [piece[at : at + 60] for piece in draw.choices(pieces, k=texts) for at in [draw.randrange(300)]]
    asked = [
        hanok.Request(text, NEW, temperature=0.8 * (at % 2), seed=at, ignore_eos=True) for at, text in enumerate(starts)
    ]
    rows = [(out.prompt_ids + out.tokens)[-NEW - 8 :] for out in hanok.Engine(llm, prefix_cache=False).generate(asked)]
    ids = torch.tensor([row for row in rows if len(row) == NEW + 8])
    optimizer = torch.optim.AdamW(small.model.parameters(), lr=2e-3, weight_decay=0.0)
    steps = 4 * len(ids) // 16
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        batch = ids[torch.randint(len(ids), (16,))]
        loss = F.cross_entropy(small.model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    small.save(made)
    return made


def answers(llm: Any, numerics: str, temperature: float, speculation: Any) -> tuple[list[list[int]], Any]:
    """Answer the prompts one after the other, as one user would ask them."""
    engine = hanok.Engine(llm, numerics=numerics, speculation=speculation, prefix_cache=False)
    asked = [
        hanok.Request(text, NEW, temperature=temperature, seed=at, ignore_eos=True) for at, text in enumerate(PROMPTS)
    ]
    return [engine.generate([request])[0].tokens for request in asked], engine.stats()


def main() -> None:
    asked = {"dim": "256", "steps": "300", "draft_steps": "600", "distil": "512"}
    options = arguments(__doc__ or "", folder="runs/speculation", **asked)
    keep_freed_memory()
    began = time.monotonic()
    folder = Path(options.folder)
    draft = trained(folder, DRAFT, int(options.draft_steps))
    target = trained(folder, TARGET | {"dim": int(options.dim)}, int(options.steps))
    native.prepare(wait=True)
    draft = distilled(target, draft, int(options.distil))
    llm, small = hanok.load(target), hanok.load(draft)
    size = [sum(p.numel() for p in one.model.parameters()) for one in (llm, small)]
    print(
        f"target {size[0]:,} parameters, draft {size[1]:,}: {size[0] / size[1]:.1f} x; {time.monotonic() - began:.0f} s"
    )
    ways: dict[str, Any] = {
        "draft, 4 tokens": {"kind": "draft", "model": str(draft), "tokens": 4},
        "draft, 6 tokens": {"kind": "draft", "model": str(draft), "tokens": 6},
        "ngram": {"kind": "ngram"},
    }
    for numerics in ("fast", "exact"):
        for temperature in (0.0, 0.8):
            plain, _ = answers(llm, numerics, temperature, None)
            for name, spec in ways.items():
                texts, stats = answers(llm, numerics, temperature, spec)
                times = interleave(
                    lambda spec=spec: answers(llm, numerics, temperature, spec),  # type: ignore[misc] # noqa: B023
                    lambda: answers(llm, numerics, temperature, None),  # noqa: B023
                    options.rounds,
                )
                ratios = sorted(theirs / ours for ours, theirs in zip(*times, strict=True))
                row = {
                    "what": f"{name}, temperature {temperature}, {numerics}",
                    "speedup": round(ratios[len(ratios) // 2], 2),
                    "range": [round(ratios[0], 2), round(ratios[-1], 2)],
                    "accepted": round(stats.accepted_tokens / max(1, stats.drafted_tokens), 3),
                    "tokens_per_step": round(stats.generated_tokens / stats.steps, 2),
                    "same_texts": sum(a == b for a, b in zip(texts, plain, strict=True)),
                }
                print(json.dumps(row) if options.json else "  ".join(f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
