"""What several verbs share: printing results, and running one stage on a user's own inputs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import cyclopts

from hanok.core.artifact import Artifact
from hanok.core.config import Config
from hanok.core.errors import Interrupted, UsageError
from hanok.core.log import Log
from hanok.core.stage import Resume, Stage, run_stage

if TYPE_CHECKING:
    from hanok.text.data.prepare import DataConfig

OVERRIDE = re.compile(r"[a-z_][a-z0-9_.]*=")
Overrides = Annotated[str, cyclopts.Parameter(help="settings as key.sub=value")]
ConfigFile = Annotated[Path | None, cyclopts.Parameter(name=["--config", "-c"], help="YAML file of settings")]
Out = Annotated[Path, cyclopts.Parameter(name=["--output-dir", "-o"], help="folder for the result")]
ResumeOption = Annotated[str, cyclopts.Parameter(help="auto, true (must exist), false (start over), or a path")]
ModelDir = Annotated[str, cyclopts.Parameter(help="model folder or hub id")]
Json = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="machine-readable output")]
Weights = Annotated[
    Literal["fp32", "bf16", "int8", "int4"] | None,
    cyclopts.Parameter(help="read the weights in this format (default: as stored)"),
]
Speculate = Annotated[
    str | None,
    cyclopts.Parameter(help="guess ahead: ngram, draft=FOLDER, early_exit=LAYERS, mtp; settings as in ngram,tokens=4"),
]
Quiet = Annotated[bool, cyclopts.Parameter(name=["--quiet", "-q"], negative=(), help="no progress")]


@dataclass(frozen=True)
class Settings:
    """How a stage verb was called, beyond its inputs."""

    overrides: Sequence[str] = ()
    config: Path | None = None
    output_dir: Path = Path("runs")
    resume: str = "auto"
    quiet: bool = False
    as_json: bool = False


def run_verb(stage: Stage, inputs: Mapping[str, Path], settings: Settings, *, config: Config | None = None) -> Artifact:
    """Run one stage on the user's inputs and say where the result is; of many processes, the others then end here."""
    from hanok.train.allocator import keep_freed_memory

    config = config or stage.config.from_yaml(settings.config, *settings.overrides)
    keep_freed_memory()
    resume, root = read_resume(settings.resume, settings.output_dir)
    log = Log(quiet=settings.quiet)
    try:
        if alone():
            artifact = run_stage(stage, config, inputs, root, log=log, resume=resume)
        else:
            from hanok.train.parallel.launch import run_together

            made = run_together(stage, config, inputs, root, log=log, resume=resume)
            if made is None:
                raise SystemExit(0)
            artifact = made
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}\nto go on: {command_line()}") from None
    log.info(f"✓ {stage.name}: {artifact.path}")
    emit({"path": str(artifact.path), **artifact.metrics}, as_json=settings.as_json)
    return artifact


def speculation(text: str | None) -> dict[str, Any] | None:
    """Return the spec of `--speculate`: a proposer's word, its main setting behind "=", others behind commas."""
    if text is None:
        return None
    import yaml

    main = {"draft": "model", "early_exit": "layers"}
    first, *rest = text.split(",")
    kind, equals, value = first.partition("=")
    if equals and kind not in main:
        raise UsageError(f"--speculate {kind} takes no value of its own; settings follow a comma: {kind},tokens=4")
    spec: dict[str, Any] = {"kind": kind}
    if equals:
        spec[main[kind]] = value if kind == "draft" else yaml.safe_load(value)
    for item in rest:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--speculate {text!r}: {item!r} must look like tokens=4")
        spec[name] = yaml.safe_load(value)
    return spec


def alone() -> bool:
    """Return whether no launcher has started this process as one of many."""
    return int(os.environ.get("WORLD_SIZE") or 1) == 1


def once(work: Callable[[], Path]) -> Path:
    """Return the path that some work leads to, which the first process does where there are many."""
    if alone():
        return work()
    from hanok.train.parallel.launch import first

    return first(work)


def model_path(model: str) -> Path:
    """Return the folder of a model: as given, or downloaded from the hub."""
    from hanok.engine.hub import find

    return find(model)


def data_config(data: Sequence[str], overrides: Sequence[str], file: Path | None) -> DataConfig:
    """Return the configuration of the data stage, with the hash of the files it reads."""
    from hanok.text.data.prepare import DataConfig

    config = DataConfig.from_yaml(file, *overrides)
    return (config.model_copy(update={"paths": tuple(data)}) if data else config).pin()


def split_data(data: Sequence[str] | None, overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return files and overrides; `--data FILES key=value` leaves the overrides among the files."""
    mixed = list(data or [])
    settings = [word for word in mixed if OVERRIDE.match(word) and not Path(word).exists()]
    return [word for word in mixed if word not in settings], [*overrides, *settings]


def prepare(data: Sequence[str], settings: Settings) -> Path:
    """Return prepared tokens: the folder given, or what the data stage makes of the files given (or of Python's prose).

    Text of the user's own is taken as it is; only Python's prose is mixed with task items.
    """
    from hanok.cli.data_clean import is_documents, tokens_of
    from hanok.text.stages import DATA

    if len(data) == 1 and (Path(data[0]) / "train" / "index.json").is_file():
        return Path(data[0])
    if len(data) == 1 and is_documents(data[0]):
        return tokens_of(Path(data[0]), settings)
    config = data_config(data, ["tasks=[]"] if data else [], None)
    return run_stage(DATA, config, {}, settings.output_dir, log=Log(quiet=settings.quiet)).path


def read_resume(value: str, root: Path) -> tuple[Resume, Path]:
    """Return the resume mode and root; a path means: go on there, and it must exist."""
    if value in get_args(Resume):
        return value, root  # type: ignore[return-value]
    path = Path(value)
    if not path.exists():
        raise UsageError(f"--resume {value!r}: use auto, true, false, or the folder of an earlier run")
    return "true", path.parent


def command_line() -> str:
    """Return the command that was typed, to be typed again."""
    import shlex

    return shlex.join(["hanok", *sys.argv[1:]])


def emit(data: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result to stdout: one JSON object, or aligned lines."""
    if as_json:
        print(json.dumps(data, ensure_ascii=False, default=str))
        return
    width = max((len(key) for key in data), default=0)
    for key, value in data.items():
        print(f"{key:<{width}}  {show(value)}")


def show(value: Any) -> str:
    """Return a value as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {show(inner)}" for key, inner in value.items())
    return str(value)


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> None:
    """Print a table whose columns are as wide as the terminal shows them (Hangul counts two)."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width).print(grid)
