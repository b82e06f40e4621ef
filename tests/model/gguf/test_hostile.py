"""Mutated files: one error type, no hang, bounded memory, nothing run; and what loading costs at its peak."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.gguf.load import load_gguf
from hanok.model.gguf.quant import FORMATS
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.save import save_gguf
from hanok.model.gguf.vocabulary import Vocabulary
from hanok.model.model import Model
from hanok.model.size import stored
from hanok.model.weights import TokenIds
from hanok.text.tokenizer import Tokenizer

MIB = 1 << 20

# In a process of its own: what another test freed must not pay for the load. Settle on a small file, measure the next.
LOADING = """
import sys
from pathlib import Path
from hanok.model.gguf.load import load_gguf
from hanok.model.size import stored


def held(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024


load_gguf(Path(sys.argv[1]))
Path("/proc/self/clear_refs").write_text("5")
before = held("VmRSS:")
model = load_gguf(Path(sys.argv[2])).model
print(held("VmHWM:") - before, sum(tensor.nbytes for tensor in stored(model).values()))
"""


@pytest.fixture
def seeds(tmp_path: Path, tiny: Callable[..., Model], craft: Any, text: Any) -> list[tuple[bytes, int]]:
    """Return sound files of every kind, each with the length of its header."""
    tokenizer = Tokenizer.train(["a house has rooms"], vocab_size=262)
    tokenizer.save(tmp_path)
    vocabulary = Vocabulary((tmp_path / "tokenizer.json").read_text(), {"chat_template": "{{ x }}"}, "qwen2")
    sizes: dict[str, Any] = {"vocab": 264, "dim": 32, "depth": 1}
    mixer, ffn = {"heads": 2, "kv_heads": 1}, {"hidden": 32}
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 64}
    scaled = {**mixer, "position": {"kind": "rope", "scaling": {"kind": "llama3", **llama3}}}
    save_gguf(tiny(scaled, ffn, **sizes), tmp_path / "0.gguf", ids=TokenIds(1, (2, 3), 0))
    save_gguf(tiny({**mixer, "bias": "qkv"}, ffn, **sizes), tmp_path / "1.gguf", "q8_0")
    save_gguf(tiny(mixer, ffn, embeddings="tied", **sizes), tmp_path / "2.gguf", "f16", vocabulary=vocabulary)
    entries = [(f"n{kind}", kind, bytes(width)) for kind, width in enumerate((1, 1, 2, 2, 4, 4, 4, 1))]
    entries += [("s", 8, text("house")), ("l", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b"))]
    entries += [("d", 9, struct.pack("<IQIQ", 9, 1, 4, 2) + bytes(8)), ("w", 12, bytes(8))]
    tensors, offset = [], 0
    for format in FORMATS.values():
        data = bytes(range(256))[: format.size] * 2
        tensors.append((format.name, (format.block, 2), format.id, offset, data))
        offset += -(-len(data) // 32) * 32
    (tmp_path / "3.gguf").write_bytes(craft(entries, tensors))
    found = []
    for name in "0123":
        with GGUF.open(tmp_path / f"{name}.gguf") as file:
            found.append(((tmp_path / f"{name}.gguf").read_bytes(), min(t.offset for t in file.tensors.values())))
    return found


LENGTHS = (0, 1, 2, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40, 1 << 61, (1 << 63) - 1, 1 << 63, -1)


def _mutate(data: bytes, header: int, rng: random.Random) -> bytes:
    """Return a file with one to three faults, most of them in its header."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(min(header, len(out)) if rng.random() < 0.9 else len(out))
        match rng.randrange(8):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.randrange(256)
            case 2:  # a huge length
                out[at : at + 8] = (rng.choice(LENGTHS) % (1 << 64)).to_bytes(8, "little")
            case 3:  # another type
                out[at : at + 4] = rng.randrange(42).to_bytes(4, "little")
            case 4:
                del out[rng.randrange(len(out)) :]
            case 5:
                del out[at : at + rng.randrange(1, 40)]
            case 6:
                out[at:at] = rng.randbytes(rng.randrange(1, 40))
            case _:
                other = rng.randrange(header)
                out[at : at + 24] = out[other : other + 24]
        if len(out) < 8:
            break
    return bytes(out)


def _attempt(path: Path) -> str:
    """Read a file in every way there is; return how it ended."""
    try:
        with GGUF.open(path) as file:
            if "general.architecture" not in file.metadata:  # a container and no model
                for name in file.tensors:
                    file.read(name)
        load_gguf(path)
    except UsageError as error:
        assert path.name in str(error) or "mutant" in str(error), error
        return "refused"
    return "read"


def _fuzz(seeds: list[tuple[bytes, int]], path: Path, count: int, seed: int) -> Iterator[tuple[str, float]]:
    rng = random.Random(seed)
    for number in range(count):
        path.write_bytes(_mutate(*seeds[number % len(seeds)], rng))
        start = time.process_time()
        yield _attempt(path), time.process_time() - start


def _campaign(seeds: list[tuple[bytes, int]], tmp_path: Path, count: int, watch: Any) -> Counter[str]:
    path = tmp_path / "mutant.gguf"
    for data, _ in seeds:  # whatever is imported or set up once happens here
        path.write_bytes(data)
        _attempt(path)
    before = watch.peak(reset=True)
    ends: Counter[str] = Counter()
    slowest = 0.0
    for end, seconds in _fuzz(seeds, path, count, seed=count):
        ends[end] += 1
        slowest = max(slowest, seconds)
    assert slowest < 1.0, slowest
    assert watch.peak() - before < 64 * MIB, f"{(watch.peak() - before) / MIB:.0f} MiB"
    with watch.events() as events:
        for _ in _fuzz(seeds, path, count // 10, seed=count + 1):
            pass
    others = [event for event in events if "mutant.gguf" not in event]
    assert events and not others, others[:5]
    return ends


def test_mutated_files_are_read_or_refused(seeds: Any, tmp_path: Path, watch: Any) -> None:
    ends = _campaign(seeds, tmp_path, 1000, watch)
    assert ends["refused"] > 700 and ends["read"] > 15, ends


@pytest.mark.slow
def test_ten_thousand_mutated_files_are_read_or_refused(seeds: Any, tmp_path: Path, watch: Any) -> None:
    ends = _campaign(seeds, tmp_path, 10_000, watch)
    assert ends["refused"] > 7000 and ends["read"] > 200, ends


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured through /proc")
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
def test_loading_holds_the_weights_and_one_tensor(dtype: Any, tmp_path: Path, tiny: Callable[..., Model]) -> None:
    def save(name: str, **sizes: Any) -> int:
        model = tiny({"heads": 8, "kv_heads": 8}, {"hidden": 1536}, **sizes)
        save_gguf(model, tmp_path / name, dtype)
        return max(tensor.nbytes for tensor in stored(model).values())

    save("small.gguf", vocab=32, dim=512, depth=1)
    largest = save("m.gguf", vocab=4096, dim=512, depth=8)
    command = [sys.executable, "-c", LOADING, str(tmp_path / "small.gguf"), str(tmp_path / "m.gguf")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    grown, weights = map(int, done.stdout.split())
    assert 0.9 * weights < grown <= 1.05 * weights + largest, (grown / MIB, weights / MIB)


def test_saving_holds_one_tensor(tmp_path: Path, tiny: Callable[..., Model], watch: Any) -> None:
    model = tiny({"heads": 8, "kv_heads": 8}, {"hidden": 1536}, vocab=4096, dim=512, depth=8).to(torch.bfloat16)
    largest = max(tensor.numel() * 4 for tensor in stored(model).values())
    save_gguf(model, tmp_path / "m.gguf", "q8_0")
    before = watch.peak(reset=True)
    save_gguf(model, tmp_path / "m.gguf", "q8_0")
    assert watch.peak() - before <= 2 * largest + 16 * MIB


def test_a_vocabulary_of_a_real_size_is_read_in_a_moment(tmp_path: Path, craft: Any, watch: Any) -> None:
    words = b"".join(struct.pack("<Q", 8) + b"%08d" % number for number in range(400_000))
    (tmp_path / "v.gguf").write_bytes(craft([("tokens", 9, struct.pack("<IQ", 8, 400_000) + words)]))
    before, start = watch.peak(reset=True), time.process_time()
    with GGUF.open(tmp_path / "v.gguf") as file:
        assert file.metadata["tokens"][399_999] == "00399999"
    assert time.process_time() - start < 10.0
    assert watch.peak() - before < 2 * len(words) + 16 * MIB
