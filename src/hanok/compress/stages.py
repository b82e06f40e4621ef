"""Quantisation as a stage: a model directory in, a smaller one out, and what each layer lost."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from hanok.compress.apply import LayerError, layer_errors, quantized
from hanok.compress.quantize import QUANTIZERS
from hanok.compress.quantize.int8 import Int8
from hanok.core.artifact import atomic_write
from hanok.core.config import Config, spec_type
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.engine.local import LLM
from hanok.text.data.read import read_documents
from hanok.text.data.shard import INDEX, Shards

KINDS = {"model": "model", "tokens": "tokens"}


class QuantizeConfig(Config):
    """How to pack, and which linears to keep as they are (patterns of dotted names); embeddings are always kept.

    `calibration_tokens` bounds the text on which the layers' outputs are compared.
    """

    quantizer: spec_type(QUANTIZERS) = Int8.Config()  # type: ignore[valid-type]
    keep: tuple[str, ...] = ("head",)
    calibration_tokens: int = Field(4096, ge=1)


def run_quantize(config: QuantizeConfig, inputs: Mapping[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write the packed model, layers.csv and quantize.json, and return sizes and the worst layer."""
    llm = LLM.load(inputs["model"])
    log.progress(f"quantize: {config.quantizer.kind}")
    packed = quantized(llm.model, QUANTIZERS[config.quantizer.kind](config.quantizer), keep=config.keep)
    sequences = _calibration(llm, inputs["tokens"], config.calibration_tokens) if "tokens" in inputs else []
    rows = layer_errors(llm.model, packed, sequences)
    if not rows:
        raise UsageError(f"keep {list(config.keep)} leaves nothing to quantize")
    LLM(packed, llm.tokenizer, llm.chat, ids=llm.ids).save(out)
    write_layers(rows, out / "layers.csv")
    before, after = weight_file_bytes(inputs["model"]), weight_file_bytes(out)
    worst = max(rows, key=lambda row: row.output_error if row.output_error is not None else row.weight_error)
    figures = {
        "bytes_before": before,
        "bytes_after": after,
        "ratio": after / before,
        "layers": len(rows),
        "kept": ", ".join(config.keep),
        "mean_weight_error": sum(row.weight_error for row in rows) / len(rows),
        "worst_layer": worst.name,
        "worst_weight_error": worst.weight_error,
    }
    if worst.output_error is not None:
        measured = [row.output_error for row in rows if row.output_error is not None]
        figures |= {"mean_output_error": sum(measured) / len(measured), "worst_output_error": worst.output_error}
    record = {**figures, "quantizer": config.quantizer.to_dict(), "per_layer": [row.to_dict() for row in rows]}
    atomic_write(out / "quantize.json", json.dumps(record, indent=2) + "\n")
    return figures


def stage_for(inputs: Mapping[str, Path]) -> Stage:
    """Return the stage with or without calibration text; without, no output error is claimed."""
    return replace(QUANTIZE, inputs={name: KINDS[name] for name in inputs})


def write_layers(rows: Sequence[LayerError], path: Path) -> None:
    """Write one line per layer."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0].to_dict()))
        table.writeheader()
        table.writerows({**row.to_dict(), "shape": "x".join(map(str, row.shape))} for row in rows)


def weight_file_bytes(path: Path) -> int:
    """Return the size of a model directory's weight files."""
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _calibration(llm: LLM, path: Path, limit: int) -> list[list[int]]:
    """Return training text as token rows of at most the model's context: the first documents, up to the limit."""
    rows: list[list[int]] = []
    left = limit
    for ids in _documents(llm, path):
        row = ids[: min(left, llm.config.context)]
        rows.append(row)
        left -= len(row)
        if left <= 0:
            return rows
    if not rows:
        raise UsageError(f"{path} holds no text to calibrate with")
    return rows


def _documents(llm: LLM, path: Path) -> list[list[int]]:
    if (path / "train" / INDEX).is_file():
        shards = Shards(path / "train", verify=False)
        if shards.index["vocab_size"] > llm.config.vocab:
            raise UsageError(f"{path} was tokenised for {shards.index['vocab_size']} tokens, the model has fewer")
        return [ids.tolist() for ids, _ in zip(shards.documents(), range(256), strict=False)]
    if llm.tokenizer is None:
        raise UsageError("calibration text needs the model's tokenizer: its directory holds no tokenizer.json")
    texts = [document.text for document in read_documents([path]) if document.messages is None]
    return [llm.tokenizer.encode_document(text) for text in texts]


QUANTIZE = Stage("quantize", "model", QuantizeConfig, run_quantize, KINDS)
