"""The atlas against published counts: parameters by building on the meta device, cache bytes by walking memories."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from hanok.core.errors import UsageError
from hanok.model.atlas import entries, published
from hanok.model.size import Size, count

FILE = Path(__file__).parents[3] / "shared" / "data" / "atlas.yaml"
KNOWN: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["models"] if FILE.is_file() else {}
# Entries that are not in the atlas: their positions (Transformer-XL) or mixers (the first Zamba's) are not.
LEFT_OUT = {name for name in KNOWN if name.startswith(("gopher", "chinchilla", "zamba-"))}
# and whose released sizes no configuration reproduces: see the notes in the reference data.
LEFT_OUT |= {"switch-base", "switch-large", "switch-xxl", "switch-c"}
GIB = 1 << 30
WANTED = sorted(set(KNOWN) - LEFT_OUT)
MAKERS = {name.split("-")[0]: name for name in reversed(WANTED)}  # one model of each runs every time, all with --slow


@cache
def size_of(name: str) -> Size:
    """Return an entry's counts; a hundred layers are built once for all tests."""
    return count(published(name))


@pytest.mark.skipif(not KNOWN, reason="the reference data is not here")
@pytest.mark.parametrize(
    "name", [name if name in MAKERS.values() else pytest.param(name, marks=pytest.mark.slow) for name in WANTED]
)
def test_counts_equal_the_published(name: str) -> None:
    want = KNOWN[name]
    size = size_of(name)
    for total in {"params_total", "params_total_default_cfg"} & set(want):
        assert size.params == want[total]
    if "params_recomputed" in want:
        assert size.params == pytest.approx(want["params_recomputed"], rel=1e-3)
    if "params_active" in want:
        assert size.params_active == want["params_active"]
    if "params_non_embedding" in want:
        assert size.params - 2 * size.params_embedding == want["params_non_embedding"]
    if "kv_bytes_per_token" in want and name != "gpt-3-1.3B":  # its printed heads do not fit its printed width
        assert size.cache_bytes_per_token("bf16") == want["kv_bytes_per_token"]


@pytest.mark.slow
def test_every_entry_builds() -> None:
    for name in entries():
        assert size_of(name).params > 1_000_000, name


@pytest.mark.parametrize(
    ("name", "length", "gib"),
    [
        ("gpt-3-175b", 2048, 9.0),
        ("llama-3-70b", 8192, 2.5),
        ("llama-3.1-70b", 131_072, 40.0),
        ("mistral-7b-v0.1", 32_768, 0.5),
        ("jamba-v0.1", 262_144, 4.0),
        ("gemma-2-9b", 8192, 1.969),
    ],
)
def test_cache_at_published_lengths(name: str, length: int, gib: float) -> None:
    size = size_of(name)
    assert (size.cache_bytes(length, "bf16") - size.state_bytes) / GIB == pytest.approx(gib, rel=1e-3)


def test_hybrids_count_as_the_reference_does() -> None:
    """80 billion parameters, of which 3 billion are active; keys and values in one layer of four alone."""
    size = size_of("qwen3-next-80b-a3b")
    assert size.params == 79_674_391_296  # Qwen3NextForCausalLM(Qwen3NextConfig()) of transformers 5.23
    assert 3.0 < size.params_active / 1e9 < 4.0
    assert size.cache_numbers == 12 * 2 * 2 * 256
    shared = size_of("zamba2-2.7b")
    assert shared.params == shared.params_active and shared.flops > 3 * shared.params  # a block nine times: 3.1, not 2
    assert shared.cache_numbers == 9 * 2 * 32 * 160


@pytest.mark.parametrize(
    ("name", "each"), [("deepseek-v2", 69_120), ("deepseek-v2-lite", 31_104), ("deepseek-v3", 70_272)]
)
def test_latent_caches(name: str, each: int) -> None:
    assert size_of(name).cache_bytes_per_token("bf16") == each


def test_unknown_names_are_explained() -> None:
    with pytest.raises(UsageError, match="did you mean 'llama-3-70b'"):
        published("llama3-70b")
