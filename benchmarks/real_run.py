"""Twenty minutes of training on text that every machine has: Python's own prose and the code of its standard library.

Writes the corpus, prepares it, trains a LLaMA of 12 M parameters and an LSTM of about the same size for the same time
(or steps), and measures both on held-out documents beside gzip, xz and an n-gram. Everything is an ordinary command of
hanok's; the folder can be looked at with `hanok report DIR` or `hanok ui DIR`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import hanok
from hanok.text.data.corpus import SKIP, python_corpus

MODELS = {
    "llama": ["preset=llama-tiny", "dials.dim=384", "dials.depth=6", "dials.heads=6", "dials.kv_heads=6"],
    "lstm": ["preset=lstm-lm", "dials.dim=768", "dials.depth=2"],
}
PROMPTS = ("def __init__(self, ", "The module ", "import os\n\ndef ")


def write_corpus(file: Path) -> None:
    """Write one JSON line for each document: prose first, then modules of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = [path for path in sorted(root.rglob("*.py")) if not SKIP & set(path.relative_to(root).parts)]
    code = [path.read_text(encoding="utf-8", errors="replace") for path in modules if path.name != "topics.py"]
    texts = [*python_corpus().documents, *(text for text in code if len(text) > 200)]
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    file.write_text("".join(lines), encoding="utf-8")


def command(*words: str) -> Path:
    """Run a verb of hanok and return the folder of what it made."""
    whole = [sys.executable, "-m", "hanok", *words, "--json"]
    done = subprocess.run(whole, stdout=subprocess.PIPE, text=True, check=True)
    return Path(json.loads(done.stdout)["path"])


def metrics(path: Path) -> dict[str, Any]:
    """Return the figures of a finished artifact."""
    found: dict[str, Any] = json.loads((path / "artifact.json").read_text(encoding="utf-8"))["metrics"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--steps", type=int, help="train for so many steps instead")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = ["-o", str(options.out)]
    write_corpus(options.out / "corpus.jsonl")
    data = command("data", "prepare", "--data", str(options.out / "corpus.jsonl"), "vocab_size=4096", "tasks=[]", *out)
    for name, dials in MODELS.items():
        size = [
            "batch=16",
            "length=256",
            "seed=1",
            f"steps={options.steps}" if options.steps else f"minutes={options.minutes:g}",
        ]
        model = command("pretrain", "--data", str(data), *dials, *size, *out)
        settings = ['baselines=["uniform","gzip","xz","ngram"]', "max_bytes=200000", f"label={name}"]
        figures = command("eval", str(model), "--text", str(data), *settings, *out)
        print(json.dumps({"model": name, "train": metrics(model), "eval": metrics(figures)}), flush=True)
        llm = hanok.load(model)
        for prompt in PROMPTS:
            text = llm.generate(prompt, 60, temperature=0.7, seed=1).text
            print(json.dumps({"model": name, "prompt": prompt, "text": text}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
