"""`hanok data clean`, and `hanok data prepare` on documents that were cleaned."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from hanok.cli.common import (
    ConfigFile,
    Json,
    Out,
    Overrides,
    Quiet,
    ResumeOption,
    Settings,
    command_line,
    emit,
    read_resume,
    run_verb,
    split_data,
    table,
)

if TYPE_CHECKING:
    from hanok.core.artifact import Artifact
    from hanok.core.config import Config
    from hanok.core.log import Log
    from hanok.core.stage import Stage
    from hanok.text.data.dedup.recall import RecallReport
    from hanok.text.data.pipeline.engine import Engine

Workers = Annotated[int | None, cyclopts.Parameter(help="processes (default: one for each core); changes no byte")]
EngineOption = Annotated[str, cyclopts.Parameter(help="local, or ray (a cluster, RAY_ADDRESS); changes no byte")]
CLEAN = "clean"
SIMILARITIES, PAIRS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9), 10_000  # measured within 1 percentage point of the truth


@dataclass(frozen=True)
class Place:
    """Where the work is done: an engine's word and its processes."""

    engine: str = "local"
    workers: int | None = None

    def make(self) -> Engine:
        """Return the engine."""
        from hanok.core.device import cpu_count
        from hanok.core.errors import UsageError
        from hanok.text.data.pipeline.engine import ENGINES

        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, not {self.workers}")
        return ENGINES[self.engine](self.workers or cpu_count())


def clean(
    *overrides: Overrides,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(
            help="files, folders, globs (txt, jsonl, parquet; gz, zst) or hf:NAME[@REVISION][:CONFIG][:SPLIT]",
            consume_multiple=True,
        ),
    ] = None,
    config: ConfigFile = None,
    workers: Workers = None,
    engine: EngineOption = "local",
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Clean, filter and deduplicate documents: `hanok data clean --data corpus/ minhash.bands=20 filters=[c4]`.

    In order: repair, filters, exact and near copies, evaluation items (`decontaminate.paths=[eval.jsonl]`), personal
    data. What is dropped is listed in dropped.jsonl with its reason; a run that is stopped goes on when it is repeated.
    """
    from hanok.core.config import read_yaml, set_override

    files, changes = split_data(data, overrides)
    settings = Settings(changes, config, output_dir, resume, quiet, json)
    values = read_yaml(config) if config is not None else {}
    for change in changes:
        set_override(values, change)
    artifact = clean_documents(files, values, Place(engine, workers), settings)
    recall = recall_of(artifact)
    if json:
        found = {} if recall is None else {"dedup_recall": recall.to_dict()}
        emit({"path": str(artifact.path), **artifact.metrics, **found}, as_json=True)
        return
    print(artifact.path)
    print_funnel(artifact.metrics["funnel"])
    if recall is not None:
        print(f"\nhow many near copies are found, by similarity J of their words:\n{recall}")


def clean_documents(files: Sequence[str], values: dict[str, Any], place: Place, settings: Settings) -> Artifact:
    """Run the pipeline on files with the settings of a mapping, and return the artifact."""
    from hanok.text.data.pipeline.clean import clean_stage
    from hanok.text.data.pipeline.config import PipelineConfig

    config = PipelineConfig.parse(
        {**values, "paths": list(files)} if files else values, where=str(settings.config or "")
    )
    return _run(clean_stage(place.make()), config.pin(), {}, settings)


def prepare_clean(files: Sequence[str], place: Place, settings: Settings, *, cleaning: bool) -> bool:
    """Prepare cleaned documents, or clean first if `cleaning` or a section `clean` of the settings asks; say if done.

    Settings below `clean.` are the pipeline's, and all others those of tokenizer and shards.
    """
    from hanok.core.config import read_yaml, set_override
    from hanok.core.errors import UsageError
    from hanok.text.data.pipeline.tokens import TokensConfig, tokens_stage

    values = read_yaml(settings.config) if settings.config is not None else {}
    for change in settings.overrides:
        set_override(values, change)
    documents = _documents(files)
    if documents is None and not cleaning and CLEAN not in values:
        return False
    section = values.pop(CLEAN, None) or {}
    if not isinstance(section, dict):
        raise UsageError(f"'clean' holds the settings of the pipeline (clean.minhash=null), not {section!r}")
    if documents is not None and (cleaning or section):
        raise UsageError(f"{documents} is clean already: leave --clean and the settings of 'clean' out")
    chosen = TokensConfig.parse(values, where=str(settings.config or "")).pin()  # said before hours of cleaning
    if documents is None:
        documents = clean_documents(files, section, place, settings).path
    run_verb(tokens_stage(place.make()), {"documents": documents}, settings, config=chosen)
    return True


def tokens_of(documents: Path, settings: Settings) -> Path:
    """Return the token shards of cleaned documents, with default settings."""
    from hanok.text.data.pipeline.tokens import TokensConfig, tokens_stage

    return _run(tokens_stage(Place().make()), TokensConfig(), {"documents": documents}, settings).path


def recall_of(artifact: Artifact) -> RecallReport | None:
    """Return how surely near copies were found under the settings of a run: theory, and measured on planted pairs."""
    from hanok.text.data.dedup import MinHash, measure_recall
    from hanok.text.data.pipeline.config import PipelineConfig

    config = PipelineConfig.parse(artifact.config)
    return None if config.minhash is None else measure_recall(MinHash(config.minhash), SIMILARITIES, pairs=PAIRS)


def print_funnel(data: dict[str, Any]) -> None:
    """Print the steps, and the reasons of each for dropping documents."""
    from hanok.text.data.pipeline.funnel import reasons, rows

    table(
        [
            [step, f"{into:,}", f"{dropped:,}", f"{kept:,}", f"{size:,}", f"{share:.1%}"]
            for step, into, dropped, kept, size, share in rows(data)
        ],
        ["step", "documents", "dropped", "kept", "bytes kept", "of all"],
    )
    found = [[step, reason, f"{n:,}", f"{size:,}"] for step, reason, n, size in reasons(data)]
    if found:
        print()
        table(found, ["step", "dropped because", "documents", "bytes"])


def is_documents(path: str) -> bool:
    """Say whether a path is the folder that `hanok data clean` left."""
    from hanok.text.data.pipeline.clean import FUNNEL

    return (Path(path) / FUNNEL).is_file() and (Path(path) / "documents").is_dir()


def _documents(files: Sequence[str]) -> Path | None:
    return Path(files[0]) if len(files) == 1 and is_documents(files[0]) else None


def _run(stage: Stage, config: Config, inputs: dict[str, Path], settings: Settings) -> Artifact:
    from hanok.core.errors import Interrupted
    from hanok.core.log import Log
    from hanok.core.stage import run_stage

    resume, root = read_resume(settings.resume, settings.output_dir)
    log: Log = Log(quiet=settings.quiet)
    try:
        artifact = run_stage(stage, config, inputs, root, log=log, resume=resume)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}\nto go on: {command_line()}") from None
    sys.stdout.flush()
    log.info(f"✓ {stage.name}: {artifact.path}")
    return artifact
