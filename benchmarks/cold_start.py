"""Time to the first token of a cold `hanok run MODEL "prompt"`: a fresh process each time, and where its time goes.

The model is a LLaMA of 100 million random weights, unless a folder is named. Wall time is what a user waits; CPU time
is what a busy machine would need alone. `files cold` drops the weights from the system's cache first, where allowed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments

SHAPE = {"vocab": 32000, "dim": 768, "depth": 12, "heads": 12, "kv_heads": 4, "hidden": 2048, "context": 2048}
PARTS = """
import json, sys, time
t = [time.perf_counter()]
import torch; t.append(time.perf_counter())
from hanok.engine.local import load; t.append(time.perf_counter())
llm = load(sys.argv[1]); t.append(time.perf_counter())
next(iter(llm.stream([5, 6, 7], 2))); t.append(time.perf_counter())
next(iter(llm.stream([5, 6, 7], 2))); t.append(time.perf_counter())
names = ("import torch", "import hanok", "load", "first token", "first token again")
print(json.dumps(dict(zip(names, (b - a for a, b in zip(t, t[1:]))))))
"""


def make(folder: Path) -> None:
    """Write a model of random weights with a small tokenizer."""
    import hanok

    words = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parents[1].glob("docs/**/*.md"))]
    tokenizer = hanok.Tokenizer.train(words, vocab_size=2000)
    hanok.LLM(hanok.Model(hanok.ModelConfig.preset("llama-tiny", **SHAPE)), tokenizer).save(folder)


def forget(folder: Path) -> None:
    """Ask the system to forget what it has cached of a folder's files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def once(words: list[str]) -> tuple[float, float]:
    """Return the wall seconds until the first byte of output, and the CPU seconds of the whole process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - begun
        process.stdout.read()
    if process.returncode:
        raise SystemExit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return first, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, rounds: int, *, cold: bool) -> dict[str, float]:
    """Return the usual times of fresh processes."""
    seconds = []
    for _ in range(rounds):
        if cold:
            forget(folder)
        seconds.append(once([sys.executable, "-m", "hanok", "run", str(folder), "Hello there", "--max-tokens", "1"]))
    wall, cpu = zip(*seconds, strict=True)
    return {"first token": statistics.median(wall), "best": min(wall), "cpu": statistics.median(cpu)}


def main() -> None:
    options = arguments(__doc__ or "", model="")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.model or scratch)
        if not options.model:
            make(folder)
        once([sys.executable, "-m", "hanok", "run", str(folder), "Hello", "--max-tokens", "1"])
        rows = {
            "warm files": measure(folder, options.rounds, cold=False),
            "files cold": measure(folder, options.rounds, cold=True),
        }
        told = subprocess.run([sys.executable, "-c", PARTS, str(folder)], capture_output=True, text=True, check=True)
        rows["parts of one process"] = json.loads(told.stdout)
    if options.json:
        print(json.dumps(rows))
        return
    for title, row in rows.items():
        print(f"{title:<22}" + "   ".join(f"{name} {seconds:.2f} s" for name, seconds in row.items()))


if __name__ == "__main__":
    main()
