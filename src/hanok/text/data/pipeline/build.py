"""From settings to steps: what is built once for a run, and what every worker builds for itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from hanok.core.artifact import atomic_write
from hanok.text.data.clean import Clean
from hanok.text.data.decontaminate import Index
from hanok.text.data.dedup import Exact, MinHash
from hanok.text.data.filter import make_filter
from hanok.text.data.pii import Pii
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.items import build_index, leak_step
from hanok.text.data.pipeline.steps import Step, Steps, Twins, edit, judge

INDEX, ITEMS = "items.safetensors", "evaluation_items.json"


def prepare_steps(config: PipelineConfig, work: Path, out: Path) -> None:
    """Build what all workers share: the index of evaluation items, and `evaluation_items.json`, which speaks of it.

    Items that are too short to be known by a window of their text are listed there as unprotected.
    """
    if config.decontaminate is not None and not (work / INDEX).is_file():
        index = build_index(config.decontaminate)
        about = {"items": len(index.items), "unprotected": index.unprotected}
        atomic_write(out / ITEMS, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        index.save(work / INDEX)


def build_steps(config: PipelineConfig, work: Path) -> Steps:
    """Return the steps that a configuration asks for, in their order."""
    before = [edit("clean", Clean(config.clean))] if config.clean is not None else []
    before += [judge(spec.kind, make_filter(spec)) for spec in config.filters]
    twins: list[Twins] = []
    if config.exact is not None:
        twins.append(Twins("exact", "copy", Exact(config.exact)))
    if config.minhash is not None:
        twins.append(Twins("minhash", "near copy", MinHash(config.minhash)))
    after: list[Step] = []
    if config.decontaminate is not None:
        after.append(leak_step(Index.load(work / INDEX), config.decontaminate.min_share))
    if config.pii is not None:
        after.append(edit("pii", Pii(config.pii)))
    return Steps(list(_named(before)), twins, after)


def _named(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps; the second of a kind is `kind-2`."""
    seen: dict[str, int] = {}
    for step in steps:
        seen[step.name] = seen.get(step.name, 0) + 1
        yield step if seen[step.name] == 1 else Step(f"{step.name}-{seen[step.name]}", step.apply)
