"""What the pipeline reads and does: a file of settings that gives the same bytes wherever it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from hanok.core.artifact import file_sha256
from hanok.core.config import Config, digest
from hanok.text.data.clean import CleanConfig
from hanok.text.data.dedup.exact import ExactConfig
from hanok.text.data.dedup.minhash import MinHashConfig
from hanok.text.data.filter import FilterSpec
from hanok.text.data.pii import PiiConfig
from hanok.text.data.pipeline.find import content_of
from hanok.text.data.pipeline.items import DecontaminateConfig

# Gopher's and FineWeb's rules for prose; C4's drop code, and languages and perplexity need to be told what is wanted.
FILTERS = ("gopher_repetition", "gopher_quality", "fineweb")
MIB = 1 << 20


class SourceConfig(Config):
    """What is read: files, folders, globs (txt, jsonl, parquet; gz and zst) and `hf:` datasets."""

    paths: tuple[str, ...] = ()
    column: str = "text"
    metadata: tuple[str, ...] = ("id", "url", "title", "language", "date", "license")  # columns kept where present
    source_column: str | None = None  # names the domain of a row; otherwise the file does
    bad_rows: Literal["stop", "drop"] = "stop"
    unit_bytes: int = Field(default=16 * MIB, ge=1)  # of the input, about, in a file of the output
    source: str = ""  # identifies the content of what is read; `pin` fills it in

    def pin(self) -> Self:
        """Return the configuration with the hash of what it reads, so that changed files make a new artifact."""
        return self.model_copy(update={"source": content_of(self.paths)})


class PipelineConfig(SourceConfig):
    """What is read, and the steps that it goes through."""

    clean: CleanConfig | None = CleanConfig()
    filters: tuple[FilterSpec, ...] = Field(default=FILTERS, validate_default=True)
    exact: ExactConfig | None = ExactConfig()
    minhash: MinHashConfig | None = MinHashConfig()
    decontaminate: DecontaminateConfig | None = None
    pii: PiiConfig | None = PiiConfig()

    def pin(self) -> Self:
        """Return the configuration with the hash of all that is read: also evaluation sets and the filters' models."""
        pinned = super().pin()
        others = [content_of(self.decontaminate.paths)] if self.decontaminate is not None else []
        models = [str(spec.to_dict().get("model") or "") for spec in self.filters]
        others += [file_sha256(Path(model)) for model in models if Path(model).is_file()]
        return pinned.model_copy(update={"source": digest([pinned.source, others])}) if others else pinned
