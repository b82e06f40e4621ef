"""`hanok plan train` and `hanok plan serve`."""

from __future__ import annotations

from typing import Annotated, Any

import cyclopts

from hanok.cli.common import Json, emit
from hanok.core.errors import UsageError

app = cyclopts.App(name="plan", help="Say what a run will take before it is started.")
BYTES = ("weights_bytes", "optimizer_bytes", "average_bytes", "passing_bytes", "peak_bytes")


@app.command
def train(
    model: Annotated[str, cyclopts.Parameter(help="model folder, preset, or a published model")] = "llama-tiny",
    *overrides: Annotated[str, cyclopts.Parameter(help="a preset's dials (depth=8), or training settings (batch=16)")],
    tokens: Annotated[str, cyclopts.Parameter(help="tokens to train on, as 10e9, or 20x for 20 per parameter")] = "20x",
    hardware: Annotated[str, cyclopts.Parameter(help="this machine, or a name such as h100")] = "this",
    devices: Annotated[int, cyclopts.Parameter(help="how many of them")] = 1,
    mfu: Annotated[
        float | None, cyclopts.Parameter(help="share of the peak that training reaches (this: measured; named: 0.4)")
    ] = None,
    price: Annotated[float | None, cyclopts.Parameter(help="of one device for one hour")] = None,
    json: Json = False,
) -> None:
    """Parameters, FLOPs, memory, time and cost: `hanok plan train llama-depth depth=12 batch=8 --hardware h100`.

    Memory is found by rehearsing two steps on tensors that hold nothing. Time is measured on this machine by a few
    steps; on a named one it is FLOPs over peak times `--mfu`.
    """
    from hanok.cli.inspect import read_config
    from hanok.model.size import count
    from hanok.train.plan.forecast import Means, forecast
    from hanok.train.plan.hardware import HERE, find
    from hanok.train.stages import PretrainConfig

    ours = [word for word in overrides if word.split("=")[0].split(".")[0] in PretrainConfig.model_fields]
    config = read_config(model, tuple(word for word in overrides if word not in ours))
    settings = PretrainConfig.from_yaml(None, "steps=1", *ours)
    total = _tokens(tokens, count(config).params)
    share = 0.4 if mfu is None and hardware != HERE else mfu
    found = forecast(config, settings, total, Means(find(hardware), devices, share, price))
    emit(found if json else {"model": model, **_readable(found)}, as_json=json)


@app.command
def serve(
    model: Annotated[str, cyclopts.Parameter(help="model folder, preset, or a published model")],
    *words: Annotated[str, cyclopts.Parameter(help="a preset's dials (depth=8), or engine settings (numerics=exact)")],
    input_len: Annotated[int, cyclopts.Parameter(help="tokens of a prompt")] = 128,
    output_len: Annotated[int, cyclopts.Parameter(help="tokens of an answer")] = 128,
    batch_sizes: Annotated[
        list[int] | None, cyclopts.Parameter(help="prompts at once (1 8 32)", consume_multiple=True)
    ] = None,
    memory: Annotated[
        str | None, cyclopts.Parameter(help="budget such as 8GiB (default: 80 % of this machine)")
    ] = None,
    dtype: Annotated[str | None, cyclopts.Parameter(help="float32, bfloat16, ... (default: as stored)")] = None,
    weights: Annotated[str | None, cyclopts.Parameter(help="packed weights, for example int8")] = None,
    check: Annotated[
        bool, cyclopts.Parameter(negative=(), help="then measure it, and show how far off this was")
    ] = False,
    json: Json = False,
) -> None:
    """Memory, the largest batch, and tokens per second on this machine: `hanok plan serve MODEL --memory 8GiB`.

    Nothing is loaded: a few seconds measure how fast this machine multiplies matrices of the model's shapes that lie
    in no cache, and how long everything else in a step of the engine takes.
    """
    from hanok.recipes.sizing.report import lines, plan

    found = plan(
        model,
        words,
        sizes=(input_len, output_len, tuple(batch_sizes or (1, 8, 32))),
        budget=None if memory is None else _bytes(memory),
        dtype=dtype,
        weights=weights,
        check=check,
    )
    if json:
        emit(found, as_json=True)
    else:
        print("\n".join(lines(found)))


def _bytes(text: str) -> int:
    units = {"": 1, "GiB": 2**30, "MiB": 2**20, "GB": 10**9, "MB": 10**6}
    number = text.rstrip("GMiB")
    try:
        size = float(number) * units[text[len(number) :].strip()]
    except (ValueError, KeyError):
        raise UsageError(f"--memory {text!r}: write bytes as 8GiB, 512MiB or 8e9") from None
    if not 0 < size < 1e18:
        raise UsageError(f"--memory {text!r} is no amount of memory")
    return int(size)


def _tokens(text: str, parameters: int) -> float:
    try:
        value = float(text.removesuffix("x")) * (parameters if text.endswith("x") else 1)
    except ValueError:
        raise UsageError(f"--tokens {text!r} is no number: write 10e9, or 20x for 20 per parameter") from None
    if value < 1:
        raise UsageError(f"--tokens {text!r}: at least one token")
    return value


def _readable(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removesuffix("_bytes"): f"{value / 2**30:.3f} GiB" if name in BYTES else value
        for name, value in found.items()
    }
