"""`hanok ls KIND`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from hanok.cli.common import Json, table
from hanok.core.errors import UsageError, suggest

KINDS = {
    "presets": "hanok.model.preset:PRESETS",
    "families": "hanok.model.families:FAMILIES",
    "mixers": "hanok.nn.mixer:MIXERS",
    "positions": "hanok.nn.position:POSITIONS",
    "norms": "hanok.nn.norm:NORMS",
    "ffns": "hanok.nn.ffn:FFNS",
    "routers": "hanok.nn.router:ROUTERS",
    "crosses": "hanok.nn.cross:CROSSES",
    "tokenizers": "hanok.text.tokenizer:TOKENIZERS",
    "chats": "hanok.text.chat:CHATS",
    "tasks": "hanok.text.task:TASKS",
    "scores": "hanok.text.data.score:SCORES",
    "filters": "hanok.text.data.filter:FILTERS",
    "sources": "hanok.text.data.pipeline.source:SOURCES",
    "engines": "hanok.text.data.pipeline.engine:ENGINES",
    "classics": "hanok.classic:CLASSICS",
    "smoothings": "hanok.classic.smoothing:SMOOTHINGS",
    "objectives": "hanok.train.objective:OBJECTIVES",
    "optimizers": "hanok.train.optim:OPTIMIZERS",
    "schedules": "hanok.train.schedule:SCHEDULES",
    "trackers": "hanok.train.hook.track:TRACKERS",
    "uncertainties": "hanok.train.uncertainty:UNCERTAINTIES",
    "samplers": "hanok.engine.sampler:SAMPLERS",
    "processors": "hanok.engine.processor:PROCESSORS",
    "grammars": "hanok.engine.grammar:GRAMMARS",
    "proposers": "hanok.engine.speculative:PROPOSERS",
    "rewards": "hanok.align.reward:REWARDS",
    "advantages": "hanok.align.advantage:ADVANTAGES",
    "syntheses": "hanok.align.synthetic.method:METHODS",
    "quantizers": "hanok.compress.quantize:QUANTIZERS",
    "laws": "hanok.scaling.law:LAWS",
}


def ls(
    kind: Annotated[str | None, cyclopts.Parameter(help="presets, mixers, tasks, ..., atlas, or runs")] = None,
    *,
    output_dir: Annotated[Path, cyclopts.Parameter(name=["--output-dir", "-o"], help="folder of runs")] = Path("runs"),
    json: Json = False,
) -> None:
    """List what can be chosen by name (with its paper), or the finished and unfinished runs in a folder."""
    if kind is None:
        rows = [{"kind": name, "names": ", ".join(registry(name))} for name in KINDS]
    elif kind == "runs":
        rows = runs(output_dir)
    elif kind == "atlas":
        from hanok.model.atlas import entries

        rows = [{"name": name, "family": e.get("model_type", e.get("preset", ""))} for name, e in entries().items()]
    elif kind in KINDS:
        rows = [{"name": e.name, "what": e.summary, "paper": e.paper} for e in registry(kind).describe()]
    else:
        known = [*KINDS, "atlas", "runs"]
        raise UsageError(f"unknown kind {kind!r}{suggest(kind, known)} (known: {', '.join(known)})")
    if json:
        import json as library

        print(library.dumps(rows, ensure_ascii=False))
    elif rows:
        table([list(row.values()) for row in rows], list(rows[0]))
    else:
        print(f"nothing in {output_dir}")


def registry(kind: str) -> Any:
    """Return a registry by the plural that users type."""
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def runs(root: Path) -> list[dict[str, str]]:
    """Return what lies in a folder of runs, below it too."""
    from hanok.core.artifact import MANIFEST, Artifact

    rows = []
    for path in sorted(root.rglob(MANIFEST)):
        artifact = Artifact.load(path.parent, verify=False)
        seconds = f"{artifact.metrics.get('seconds', 0):.0f} s"
        rows.append({"path": str(path.parent), "kind": artifact.kind, "made": artifact.created, "took": seconds})
    unfinished = sorted(path for path in root.rglob("*.partial") if path.is_dir())
    return rows + [{"path": str(path), "kind": "unfinished", "made": "", "took": ""} for path in unfinished]
