"""`hanok plan serve`: reads what the user named, predicts, checks if asked, and says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hanok.core.device import facts, pick
from hanok.core.errors import UsageError, suggest
from hanok.engine.config import EngineConfig
from hanok.model.atlas import entries, published
from hanok.model.config import ModelConfig
from hanok.model.packing import check_weights
from hanok.model.preset import PRESETS
from hanok.model.weights import DTYPES, is_model_dir, read_architecture, read_config
from hanok.ops.native import prepare
from hanok.recipes.bench.subject import PRESET, open_model, read_preset, split
from hanok.recipes.sizing.forecast import Service, check, errors, memory, speed, stored_kind
from hanok.recipes.sizing.products import Ground

GIB = 2**30


def plan(
    model: str,
    words: Iterable[str],
    *,
    sizes: tuple[int, int, tuple[int, ...]],
    budget: int | None = None,
    dtype: str | None = None,
    weights: str | None = None,
    check: bool = False,
) -> dict[str, Any]:
    """Return the prediction for prompts and answers of lengths in batches (`sizes`), and what `check` measured."""
    settings, dials = split(words)
    prepare(wait=True)  # a server answers with the kernels, so they are what is timed
    config, as_stored, kind = find(model, dials)
    ground = Ground(_dtype(dtype or as_stored), _kind(weights or kind), pick(), _numerics(settings))
    service = Service(*sizes, settings=settings, budget=budget)
    found: dict[str, Any] = {
        "model": model,
        "dtype": str(ground.dtype).removeprefix("torch."),
        "weights": ground.kind,
        "input_len": service.input_len,
        "output_len": service.output_len,
        "machine": facts(),
        **memory(config, ground, service),
        **speed(config, ground, service),
    }
    return found | (checked(model, dials, service, ground, found["batches"]) if check else {})


def checked(
    model: str, dials: Iterable[str], service: Service, ground: Ground, predicted: Mapping[int, Any]
) -> dict[str, Any]:
    """Return what the model itself was measured to do, and how far off the prediction was."""
    name = f"{PRESET}{model}" if model in PRESETS and not is_model_dir(Path(model)) else model
    packed = None if ground.kind == "dense" or is_packed(model) else ground.kind
    llm = open_model(name, dials, dtype=str(ground.dtype).removeprefix("torch."), weights=packed, device=ground.device)
    measured = check(llm, service)
    return {"measured": measured, "errors": errors(predicted, measured)}


def find(model: str, dials: Iterable[str]) -> tuple[ModelConfig, str, str]:
    """Return a model's config, and the dtype and format that it is stored in, without its weights."""
    dials, path = list(dials), Path(model)
    name = model.removeprefix(PRESET)
    if name in PRESETS and not is_model_dir(path):
        return read_preset(name, dials), "float32", "dense"
    if dials:
        raise UsageError(f"{dials[0]!r} is neither a setting of the engine nor a dial: {model} is what it is")
    if is_model_dir(path):
        theirs = read_config(path)
        stored = str(theirs.get("dtype") or theirs.get("torch_dtype") or "float32")
        return read_architecture(theirs, path)[1], stored, stored_kind(theirs)
    if model.lower() in entries():
        return published(model), "bfloat16", "dense"
    known = [*PRESETS, *entries()]
    raise UsageError(f"{model!r} is neither a model folder, a preset nor a model of the atlas{suggest(model, known)}")


def is_packed(model: str) -> bool:
    """Say whether a folder's matrices are packed already."""
    return is_model_dir(Path(model)) and stored_kind(read_config(Path(model))) != "dense"


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return a plan as people read it."""
    context = found["largest_context"]
    out = [
        f"{found['model']}, {found['dtype']}, weights {found['weights']}, "
        f"{found['input_len']} tokens in and {found['output_len']} out",
        f"weights             {found['weights_bytes'] / GIB:.3f} GiB",
        f"cache               {found['kv_bytes_per_token']:,} bytes per token, "
        f"{found['state_bytes_per_sequence']:,} per sequence besides",
        f"budget              {found['memory_budget_bytes'] / GIB:.2f} GiB: "
        + (
            f"{found['largest_batch']:,} sequences at once"
            + (f", or one of {context:,} tokens" if context else "")
            + f" ({found['engine']})"
            if found["fits"]
            else "too small"
        ),
        f"this machine        reads {found['memory_bandwidth'] / 1e9:.1f} GB/s, "
        f"multiplies {found['matmul_flops'] / 1e9:.0f} GFLOP/s",
        "",
        f"{'batch':>5} {'TTFT ms':>9} {'ITL ms':>8} {'of it not products':>19} {'prefill tok/s':>14} "
        f"{'decode tok/s':>13} {'output tok/s':>13}",
    ]
    for batch, row in found["batches"].items():
        out.append(
            f"{batch:>5} {row['ttft_ms']:>9.1f} {row['itl_ms']:>8.2f} {row['overhead_ms']:>19.2f} "
            f"{row['prefill_tokens_per_second']:>14,.0f} {row['decode_tokens_per_second']:>13,.0f} "
            f"{row['output_tokens_per_second']:>13,.0f}"
        )
    for batch, row in found.get("measured", {}).items():
        off = found["errors"][batch]
        said = ", ".join(f"{n.removesuffix('_ms')} {row[n]:.2f} ms (predicted {off[n]:+.0%})" for n in off)
        out.append(f"measured, batch {batch}: {said}")
    return out


def _dtype(name: str) -> Any:
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}{suggest(name, DTYPES)} (known: {', '.join(DTYPES)})")
    return DTYPES[name]


def _kind(name: str) -> str:
    return "dense" if name in ("dense", "fp32") else check_weights(name)


def _numerics(settings: Mapping[str, Any]) -> str:
    return EngineConfig.parse(dict(settings)).numerics
