"""The page of `hanok compare MODEL MODEL ...`: the table, and memory against length."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanok.core.artifact import atomic_write
from hanok.core.errors import require
from hanok.model.compare import cache_curves
from hanok.model.config import ModelConfig
from hanok.report.figure.cache import cache_figure
from hanok.report.page import Page, render
from hanok.report.parts import Section, Words, same


def write_models_page(
    configs: Mapping[str, ModelConfig], rows: Sequence[Mapping[str, Any]], path: Path, dtype: str
) -> Path:
    """Write one self-contained page and return its path."""
    plotly = require("plotly.offline", extra="report")
    lengths, curves = cache_curves(configs, max(131_072, *(config.context for config in configs.values())), dtype)
    what = Words(
        "Everything here is counted by walking the modules that a configuration builds; nothing was trained or timed.",
        "모든 값은 설정이 만드는 모듈을 따라가며 센 것으로, 학습하거나 시간을 잰 값이 아닙니다.",
    )
    section = Section(
        "models", Words("Models side by side", "모델 비교"), what, figures=[cache_figure(lengths, curves, dtype)]
    )
    header = [(same(row["model"]), f"{row['parameters'] / 1e9:,.3g} B · {row['mixers']}") for row in rows]
    command = f"hanok compare {shlex.join(configs)} --dtype {dtype} --plot"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, render(Page("hanok compare", command, header, [], [section]), plotly.get_plotlyjs()))
    return path
