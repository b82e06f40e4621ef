"""Concurrent requests through HTTP, streamed, against transformers on the same weights: interleaved, as ratios.

Hanok is a server of its own in another process, loaded by `hanok bench serve`'s own client with all requests at once.
Transformers answers in this process, without HTTP, which is to its advantage: one padless batch by `generate`, and its
continuous batching by `generate_batch` where the version has it. llama-server takes part with `--llama PATH`: the same
weights, exported to GGUF, through the same client. `--weights int8` packs hanok's weights and makes them Q8_0 in
llama-server; `--set "engine.max_batch_tokens=2048"` sets hanok's server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import arguments

import hanok
from hanok.core.errors import HanokError
from hanok.recipes.bench import load
from hanok.recipes.bench.figures import Sample, summary
from hanok.recipes.bench.runner import ContinuousTransformers, Transformers
from hanok.serve.fetch import Address

DIALS = {"vocab": 32000, "dim": 768, "depth": 12, "heads": 12, "kv_heads": 4, "hidden": 2048, "context": 1024}
Rounds = Callable[[list[list[int]], int], list[Sample]]


def words_of(size: int) -> hanok.Tokenizer:
    """Return a tokenizer of so many tokens, each of which is text: what a random model writes has to be sent."""
    draw = random.Random(0)
    texts = [" ".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(1000)) for _ in range(60)]
    return hanok.Tokenizer.train(texts, vocab_size=size)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(words: list[str], port: int, threads: int) -> Iterator[Address]:
    """Run a server and give its address when it is ready."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(words)} has ended with code {process.returncode}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                time.sleep(0.1)
            yield Address(port=port)
        finally:
            process.terminate()


def over_http(target: load.Target) -> Rounds:
    def run(prompts: list[list[int]], output_len: int) -> list[Sample]:
        asks = [load.Ask(prompt, len(prompt), output_len) for prompt in prompts]
        return asyncio.run(load.fire(asks, [0.0] * len(asks), partial(load.request, target)))

    return run


def compare(runners: dict[str, Rounds], options: Any) -> dict[str, Any]:
    """Return each program's figures, and how many times as long each took as hanok, round by round."""
    count, read, write = int(options.requests), int(options.prompt), int(options.answer)
    draw = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in runners}
    samples: dict[str, list[Sample]] = {name: [] for name in runners}
    for number in range(options.rounds + 1):  # the first one warms up
        prompts = [[draw.randrange(3, DIALS["vocab"]) for _ in range(read)] for _ in range(count)]
        for name in list(runners) if number % 2 else reversed(runners):
            begun = time.perf_counter()
            found = runners[name](prompts, write)
            seconds = time.perf_counter() - begun
            wrong = [s.error or f"{s.output_tokens} tokens" for s in found if not s.ok or s.output_tokens != write]
            if wrong:
                raise SystemExit(f"{name}: {len(wrong)} of {count} failed, such as: {wrong[0]}")
            if number:
                times[name].append(seconds)
                samples[name] += found
    return {
        name: summary(samples[name], sum(times[name]))
        | {"ratio": statistics.median(t / o for t, o in zip(times[name], times["hanok"], strict=True))}
        for name in runners
    }


def named(file: Path) -> None:
    """Give the file a rule of words that llama.cpp knows (it refuses ours): prompts are token ids here anyway."""
    data = file.read_bytes()
    at = data.index(b"tokenizer.ggml.pre") + len(b"tokenizer.ggml.pre")
    file.write_bytes(data[:at] + data[at:].replace(b"hanok", b"gpt-2", 1))


def peers(folder: Path, llama: str, options: Any, stack: contextlib.ExitStack) -> dict[str, Rounds]:
    """Return what can be compared with, and say what cannot."""
    llm, found = hanok.load(folder, dtype=options.dtype), {}
    for kind in (Transformers, ContinuousTransformers):
        try:
            runner = kind(llm)
            runner([[5, 6, 7]], 2)
            found[kind.name] = runner
        except (HanokError, ImportError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            print(f"left out: {kind.name}: {str(error).splitlines()[0]}", file=sys.stderr)
    if llama:
        port, file = free_port(), folder / "model.gguf"
        llm.export_gguf(file, "f32" if options.dtype == "float32" and not options.weights else "q8_0")
        named(file)
        words = [llama, "-m", str(file), "--port", str(port), "-np", options.requests, "-t", str(options.threads)]
        address = stack.enter_context(server([*words, "-c", "16384", "-cb"], port, options.threads))
        found["llama-server"] = over_http(load.Target(address, "model"))
    else:
        print("left out: llama-server: no build was named (--llama PATH)", file=sys.stderr)
    return found


def main() -> None:
    options = arguments(
        __doc__ or "",
        requests="32",
        prompt="128",
        answer="128",
        dtype="float32",
        depth="12",
        llama="",
        set="",
        weights="",
    )
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        config = hanok.ModelConfig.preset("llama-tiny", **{**DIALS, "depth": int(options.depth)})
        model = hanok.Model(config).to(getattr(torch, options.dtype))
        hanok.LLM(model, words_of(DIALS["vocab"])).save(folder)
        port = free_port()
        words = [sys.executable, "-m", "hanok", "serve", str(folder), "--port", str(port), "ports=1", "model_name=m"]
        words += options.set.split() + (["--weights", options.weights] if options.weights else [])
        address = stack.enter_context(server(words, port, options.threads))
        runners = {"hanok": over_http(load.Target(address, "m")), **peers(folder, options.llama, options, stack)}
        found = compare(runners, options)
    if options.json:
        print(json.dumps(found))
        return
    stored = options.weights or options.dtype
    print(f"{options.requests} requests at once, {options.prompt} in, {options.answer} out, {stored}")
    for name, row in found.items():
        gaps = f"TTFT p99 {row['p99_ttft_ms']:,.0f} ms" + (
            f", ITL p99 {row['p99_itl_ms']:,.1f} ms" if "p99_itl_ms" in row else ""
        )
        print(f"{name:<28} {row['output_throughput']:>9,.1f} tokens/s   {row['ratio']:.2f} x hanok's time   {gaps}")


if __name__ == "__main__":
    main()
