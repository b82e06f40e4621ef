"""Decode and prefill of one 100 M (or larger) LLaMA against llama.cpp: the same weights, exported to GGUF, interleaved.

`--llama FOLDER` is where a build of llama.cpp has `llama-bench` and `llama-quantize`. One stream; hanok's time includes
its scheduling and drawing, llama-bench's only its `llama_decode`. int8 meets Q8_0 and int4 meets Q4_0, whose blocks of
32 are as ours.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import arguments
from decode import SHAPE, bandwidth, weight_bytes

import hanok
from hanok.model.packing import pack_weights
from hanok.ops import native

FORMATS = {"fp32": "f32", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
LARGE = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}
READ, WRITE = 512, 64


def exported(llm: Any, weights: str, folder: Path, tools: Path) -> Path:
    """Return the model as a GGUF file in a format, written by hanok and, where we write no such blocks, by theirs."""
    whole, file = folder / "f32.gguf", folder / f"{FORMATS[weights]}.gguf"
    if not whole.exists():
        llm.export_gguf(whole, "f32")
    if not file.exists():
        words = [tools / "llama-quantize", "--pure", whole, file, FORMATS[weights].upper()]
        subprocess.run(list(map(str, words)), check=True, capture_output=True)
    return file


def bench(file: Path, tools: Path, read: int, write: int, threads: int) -> float:
    """Return the seconds llama-bench needs for reading a prompt, or for writing after one token."""
    words = [tools / "llama-bench", "-m", file, "-p", read, "-n", write, "-t", threads, "-r", 1, "-o", "json"]
    done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)[0]["samples_ns"][0]) / 1e9


def race(llm: Any, weights: str, file: Path, options: Any) -> None:
    """Time one format in turn: decode, then prefill."""
    packed = copy.deepcopy(llm)
    pack_weights(packed.model, weights)
    engine = hanok.Engine(packed, numerics="fast", chunk=READ, prefix_cache=False)
    tools = Path(options.llama)
    for name, read, write in ((f"decode {weights}", 0, WRITE), (f"prefill {weights}", READ, 0)):
        prompts = torch.randint(3, SHAPE["vocab_size"], (1, read or 1))
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                if which:
                    seconds = bench(file, tools, read, write, options.threads)
                else:
                    seconds = own_seconds(engine, prompts, write or 1)
                if number:  # the first round warms up
                    times[which].append(seconds)
        count = write or read
        speeds = [count / statistics.median(side) for side in times]
        ratios = sorted(theirs / mine for mine, theirs in zip(*times, strict=True))
        row = {"what": name, "hanok": round(speeds[0], 1), "llama.cpp": round(speeds[1], 1)}
        row |= {
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
        }
        share = weight_bytes(packed.model) * speeds[0] / bandwidth(options.rounds) if write else None
        row |= {"share_of_bandwidth": round(share, 3)} if share else {}
        print(
            json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()), flush=True
        )


def own_seconds(engine: Any, prompts: torch.Tensor, write: int) -> float:
    """Return the seconds of hanok's engine for one stream, whatever it does between steps included."""
    request = hanok.Request(prompts[0].tolist(), write, temperature=0.0, ignore_eos=True)
    started = time.perf_counter()
    engine.generate([request])
    return time.perf_counter() - started


def main() -> None:
    options = arguments(__doc__ or "", weights="fp32,bf16,int8,int4", llama="", shape="100m")
    if not options.llama:
        raise SystemExit("name a build of llama.cpp: --llama FOLDER (with llama-bench and llama-quantize)")
    if not native.prepare(wait=True):
        print(f"without kernels: {native.status()}")
    shape = {"100m": SHAPE, "1b": LARGE}[options.shape]
    sizes = {"vocab": "vocab_size", "dim": "hidden_size", "hidden": "intermediate_size", "depth": "num_hidden_layers"}
    sizes |= {"heads": "num_attention_heads", "kv_heads": "num_key_value_heads"}
    dials = {dial: shape[key] for dial, key in sizes.items()}
    llm = hanok.LLM(hanok.Model(hanok.ModelConfig.preset("llama-tiny", **dials, context=1024)))
    with tempfile.TemporaryDirectory() as scratch:
        for weights in options.weights.split(","):
            race(llm, weights, exported(llm, weights, Path(scratch), Path(options.llama)), options)


if __name__ == "__main__":
    main()
