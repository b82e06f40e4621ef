"""`hanok export MODEL FILE.gguf`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from hanok.cli.common import Json, ModelDir, emit


def export(
    model: ModelDir,
    file: Annotated[Path, cyclopts.Parameter(help="the .gguf file, or a folder for the Hugging Face layout")],
    dtype: Annotated[Literal["f32", "f16", "q8_0"], cyclopts.Parameter(help="of a GGUF file's matrices")] = "q8_0",
    json: Json = False,
) -> None:
    """Write a model for other programs: one GGUF file for llama.cpp, or a folder that transformers and vLLM load."""
    from hanok.core.errors import UsageError
    from hanok.engine.local import LLM

    if file.suffix != ".gguf" and file.is_file():
        raise UsageError(f"{file} is a file: give a name that ends in .gguf, or a folder")
    llm = LLM.load(model)
    if file.suffix == ".gguf":
        file.parent.mkdir(parents=True, exist_ok=True)
        llm.export_gguf(file, dtype)
        size = file.stat().st_size
    else:
        llm.save(file)
        size = sum(part.stat().st_size for part in file.iterdir() if part.is_file())
    emit({"path": str(file), "bytes": size}, as_json=json)
