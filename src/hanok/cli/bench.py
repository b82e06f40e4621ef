"""`hanok bench latency`, `hanok bench throughput`, `hanok bench serve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts

from hanok.core.errors import UsageError

if TYPE_CHECKING:
    from hanok.engine.local import LLM
    from hanok.recipes.bench.offline import Load

app = cyclopts.App(name="bench", help="Measure how fast a model answers, alone or against peers on the same weights.")

Subject = Annotated[str, cyclopts.Parameter(help="model folder, hub id, or preset=NAME with random weights")]
Words = Annotated[str, cyclopts.Parameter(help="a preset's dials (depth=8), or engine settings (numerics=exact)")]
InputLen = Annotated[int, cyclopts.Parameter(name=["--input-len", "--random-input-len"], help="tokens of a prompt")]
OutputLen = Annotated[int, cyclopts.Parameter(name=["--output-len", "--random-output-len"], help="tokens of an answer")]
Peers = Annotated[bool, cyclopts.Parameter(negative=(), help="measure transformers too, in turn, on the same weights")]
JsonFile = Annotated[
    Path | None, cyclopts.Parameter(name=["--json", "--output-json"], help="file for the figures (-: print them)")
]
Dtype = Annotated[str | None, cyclopts.Parameter(help="float32, bfloat16, ... (default: as stored)")]
Weights = Annotated[str | None, cyclopts.Parameter(help="pack the products' weights, for example int8")]


@app.command
def latency(
    model: Subject,
    *words: Words,
    input_len: InputLen = 32,
    output_len: OutputLen = 128,
    batch_size: int = 8,
    num_iters: int = 10,
    num_iters_warmup: int = 2,
    dtype: Dtype = None,
    weights: Weights = None,
    device: str = "auto",
    peers: Peers = False,
    json: JsonFile = None,
) -> None:
    """Time one batch from its start to its end: `hanok bench latency MODEL --batch-size 1 --output-len 128`."""
    from hanok.recipes.bench.offline import Load, latency_figures, latency_lines

    llm, settings = _open(model, words, dtype=dtype, weights=weights, device=device)
    load = Load(batch_size, input_len, output_len, num_iters, num_iters_warmup)
    _offline(llm, settings, load, peers, (latency_figures, latency_lines), json)


@app.command
def throughput(
    model: Subject,
    *words: Words,
    input_len: InputLen = 128,
    output_len: OutputLen = 128,
    num_prompts: int = 64,
    num_iters: int = 1,
    dtype: Dtype = None,
    weights: Weights = None,
    device: str = "auto",
    peers: Peers = False,
    json: JsonFile = None,
) -> None:
    """Time many requests that all wait at once, by continuous batching: `hanok bench throughput MODEL`."""
    from hanok.recipes.bench.offline import Load, throughput_figures, throughput_lines

    llm, settings = _open(model, words, dtype=dtype, weights=weights, device=device)
    load = Load(num_prompts, input_len, output_len, num_iters, 0)
    _offline(llm, settings, load, peers, (throughput_figures, throughput_lines), json)


@app.command
def serve(
    base_url: Annotated[str, cyclopts.Parameter(name=["--base-url"], help="the server")] = "http://127.0.0.1:8000",
    *,
    model: Annotated[str | None, cyclopts.Parameter(help="its name there (default: the first one listed)")] = None,
    endpoint: Annotated[Literal["completions", "chat"], cyclopts.Parameter(help="which API")] = "completions",
    api_key: Annotated[str | None, cyclopts.Parameter(env_var="HANOK_API_KEY", help="the server's key")] = None,
    num_prompts: int = 100,
    request_rate: Annotated[float, cyclopts.Parameter(help="requests per second; inf sends all at once")] = float(
        "inf"
    ),
    burstiness: Annotated[float, cyclopts.Parameter(help="1: Poisson; below: bursts; above: more even")] = 1.0,
    max_concurrency: Annotated[int | None, cyclopts.Parameter(help="at most so many under way")] = None,
    input_len: InputLen = 128,
    output_len: OutputLen = 128,
    vocab_size: Annotated[int, cyclopts.Parameter(help="random token ids are drawn below this")] = 256,
    prompts: Annotated[Path | None, cyclopts.Parameter(help='lines of {"prompt": ..., "max_tokens": ...}')] = None,
    slo: Annotated[
        list[str] | None,
        cyclopts.Parameter(
            name=["--slo", "--goodput"],
            consume_multiple=True,
            help="limits in ms for goodput, such as ttft:200 tpot:50",
        ),
    ] = None,
    seed: int = 0,
    json: JsonFile = None,
) -> None:
    """Put load on a running OpenAI-compatible server and say how it answered, in the words of vLLM's bench.

    `hanok bench serve --base-url http://127.0.0.1:8000 --request-rate 4 --slo ttft:500 tpot:100`
    """
    from hanok.core.errors import require

    require("h11", extra="serve")
    from hanok.recipes.bench import figures, load
    from hanok.serve.fetch import Address

    limits = figures.read_slo(slo or ())
    address = Address.parse(base_url.rstrip("/").removesuffix("/v1"))
    if prompts is not None:
        asks = load.read_asks(_read(prompts), num_prompts, output_len)
    else:
        sizes = {"vocab": vocab_size, "endpoint": endpoint, "seed": seed}
        asks = load.random_asks(num_prompts, input_len, output_len, **sizes)  # type: ignore[arg-type]
    times = load.arrivals(num_prompts, request_rate, burstiness, seed)
    target = {"address": address, "model": model, "endpoint": endpoint, "key": api_key}
    found = _under_load(target, asks, times, max_concurrency, limits)
    found |= {"num_prompts": num_prompts, "request_rate": request_rate, "max_concurrency": max_concurrency}
    _put(found, figures.lines(found), json)


def _under_load(target: dict[str, Any], asks: Any, times: Any, most: int | None, slo: dict[str, float]) -> Any:
    import asyncio
    import time
    from functools import partial

    from hanok.recipes.bench import figures, load

    async def go() -> dict[str, Any]:
        target["model"] = target["model"] or await load.only_model(target["address"], target["key"])
        begun = time.perf_counter()
        samples = await load.fire(asks, times, partial(load.request, load.Target(**target)), most=most)
        return {"model_id": target["model"], **figures.summary(samples, time.perf_counter() - begun, slo=slo)}

    return asyncio.run(go())


def _open(model: str, words: tuple[str, ...], **how: Any) -> tuple[LLM, dict[str, Any]]:
    from hanok.recipes.bench.subject import open_model, split

    settings, dials = split(words)
    return open_model(model, dials, **how), settings


def _offline(llm: LLM, settings: dict[str, Any], load: Load, peers: bool, kind: Any, json: Path | None) -> None:
    from dataclasses import asdict

    from hanok.core.device import facts
    from hanok.recipes.bench.offline import measure, ratios, runners_of

    figures, lines = kind
    rounds = measure(llm, load, runners_of(llm, settings, peers=peers))
    found = {name: figures(samples) for name, samples in rounds.items()}
    text = []
    for name, part in found.items():
        text += ([f"--- {name}"] if len(found) > 1 else []) + lines(part)
    shares = ratios(rounds)
    for name, share in shares.items():
        text.append(f"{name} takes {share['median']:.2f} x as long ({share['min']:.2f} .. {share['max']:.2f})")
    whole = {"load": asdict(load), "machine": facts(), **found.pop("hanok")}
    _put(whole | ({"peers": found, "ratios": shares} if shares else {}), text, json)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the prompts {path}: {error}") from None


def _put(found: dict[str, Any], text: list[str], path: Path | None) -> None:
    """Print the figures for people, and write them for programs."""
    from hanok.core.artifact import atomic_write

    data = json.dumps(found, ensure_ascii=False, indent=1, default=str) + "\n"
    if path == Path("-"):
        print(data, end="")
        return
    print("\n".join(text))
    if path is not None:
        atomic_write(path, data)
