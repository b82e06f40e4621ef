"""`hanok plan serve`: its arithmetic, its count of products, and its memory against the engine's own."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import count, stored
from hanok.nn.linear import Linear
from hanok.recipes.bench.subject import prompts
from hanok.recipes.sizing import forecast, products
from hanok.recipes.sizing.forecast import Service, _figures, errors, memory, stored_kind
from hanok.recipes.sizing.hollow import Hollow, Product, Step
from hanok.recipes.sizing.products import Ground, read_bandwidth, seconds_of
from hanok.recipes.sizing.report import find

TINY = {"vocab": 96, "dim": 32, "depth": 2, "heads": 2, "kv_heads": 1, "context": 96}
FP32 = Ground(torch.float32)


def tiny() -> ModelConfig:
    return ModelConfig.preset("llama-tiny", **TINY)


def test_memory_is_what_a_model_and_an_engine_hold() -> None:
    found = memory(tiny(), FP32, Service(33, 32))
    model = Model(tiny())
    assert found["weights_bytes"] == sum(weight.nbytes for weight in model.parameters())
    engine = Engine(LLM(model))
    for pages in (1, 2):
        engine.pool.store.grow_pages(pages)
        held, engine_page = engine.pool.store.bytes, found["kv_bytes_per_token"] * engine.config.page_size
        assert held == (pages + 1) * engine_page, "and the page of zeros"
    assert found["bytes_per_sequence"] == 2 * engine_page, "64 tokens are read: the last of 65 is not"
    one_more = memory(tiny(), FP32, Service(34, 32))
    assert one_more["bytes_per_sequence"] == 3 * engine_page


def test_the_largest_batch_is_what_the_budget_holds() -> None:
    whole = memory(tiny(), FP32, Service(33, 32))
    enough = whole["weights_bytes"] + 3 * whole["bytes_per_sequence"]
    assert memory(tiny(), FP32, Service(33, 32, budget=enough))["largest_batch"] == 3
    less = memory(tiny(), FP32, Service(33, 32, budget=enough - 1))
    assert less["largest_batch"] == 2 and less["engine"] == "engine.max_sequences=2 engine.num_pages=4"
    none = memory(tiny(), FP32, Service(33, 32, budget=10))
    assert none["largest_batch"] == 0 and not none["fits"] and none["largest_context"] == 0
    assert whole["largest_context"] == TINY["context"], "no sequence is longer, whatever the memory"
    half = memory(tiny(), Ground(torch.bfloat16), Service(33, 32))
    assert 2 * half["weights_bytes"] == whole["weights_bytes"]
    assert memory(tiny(), Ground(torch.float32, "int8"), Service(33, 32))["weights_bytes"] < whole["weights_bytes"]


def _tensors(hollow: Hollow) -> list[torch.Tensor]:
    return list(stored(hollow.llm.model).values())


@pytest.mark.parametrize("preset", ["llama-tiny", "mla-tiny", "moe-tiny", "mamba-tiny", "jamba-tiny", "lstm-lm"])
def test_a_hollow_model_counts_every_product_and_computes_none(preset: str) -> None:
    config = ModelConfig.preset(preset)
    hollow = Hollow(config, torch.float32, "cpu")
    rows = prompts(2, 12, config.vocab, random.Random(0))
    steps = hollow.walk(Engine(hollow.llm), rows, 3)
    head = hollow.llm.model.head
    assert head is not None and [len(step.ids) for step in steps] == [2, 2, 2]
    direct = [hollow.llm.model.get_submodule(name) for name in hollow.direct]
    assert [type(each) for each in direct] == [Linear] * (config.depth if preset in ("mla-tiny", "lstm-lm") else 0)
    aside = sum(2 * each.inputs * each.outputs for each in (head, *direct) if isinstance(each, Linear))
    layers = count(config).flops - aside
    for step, tokens in zip(steps, (24, 2, 2), strict=True):
        found = sum(2 * p.inputs * p.outputs * p.rows * n for p, n in step.products.items())
        heads = 2 * 2 * head.inputs * head.outputs
        assert found - heads == pytest.approx(layers * tokens, rel=0.02), "but for the routers, which are computed"
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _tensors(hollow)}
    whole = sum(tensor.nbytes for tensor in _tensors(hollow))
    assert sum(held.values()) < whole, "the matrices take no memory"


def test_steps_that_are_replayed_count_as_those_that_they_repeat(kernels: Any) -> None:
    """Which asks for nothing."""
    hollow = Hollow(ModelConfig.preset("llama-tiny"), torch.float32, "cpu")
    engine = Engine(hollow.llm)
    first, again = (hollow.walk(engine, prompts(3, 12, 256, random.Random(seed)), 12)[1:] for seed in (0, 1))
    assert engine.replayed == 3
    assert all(step.products == first[0].products for step in first + again) and first[0].products.total() > 2


def test_predicted_times_are_the_steps_and_their_products() -> None:
    small, large = Product(2, 2, 1), Product(2, 2, 9)
    each = {small: 1.0, large: 10.0}
    reads = [Step(0.5, Counter({large: 2}), []), Step(0.5, Counter({large: 1, small: 1}), [0, 1])]
    writes = [Step(seconds, Counter({small: 3}), [0, 1]) for seconds in (0.1, 0.2, 0.9)]
    found = _figures(2, (reads, writes), each, Service(20, 11))
    assert found["ttft_ms"] == pytest.approx(32e3) and found["itl_ms"] == pytest.approx(3.2e3)
    assert found["latency_ms"] == pytest.approx(32e3 + 10 * 3.2e3) and found["overhead_ms"] == pytest.approx(200)
    assert found["prefill_tokens_per_second"] == pytest.approx(40 / 32)
    assert found["output_tokens_per_second"] == pytest.approx(22 / 64)
    measured = {2: {"ttft_ms": 40e3, "itl_ms": 3.2e3, "latency_ms": 0.0}}
    assert errors({2: found}, measured) == {2: {"ttft_ms": pytest.approx(-0.2), "itl_ms": pytest.approx(0)}}


def test_products_of_every_format_can_be_timed() -> None:
    wanted = [Product(32, 16, 1), Product(32, 16, 4), Product(32, 64, 1, expert=True)]
    for kind in ("dense", "bf16", "int8", "int4"):
        found = seconds_of(wanted, Ground(torch.float32, kind), between=1 << 14)
        assert set(found) == set(wanted) and min(found.values()) > 0


def test_bandwidth_is_bytes_over_the_best_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "RING", 1 << 20)
    ticks = iter([0.0, 0.0, 0.0, 0.5, 0.6, 0.6, 0.85, 9.0])
    assert read_bandwidth(seconds=1.0, clock=lambda: next(ticks)) == pytest.approx((1 << 20) / 0.25)


def test_what_a_folder_says_about_its_numbers_is_taken(tmp_path: Path) -> None:
    LLM(Model(tiny()).to(torch.bfloat16)).save(tmp_path)
    assert find(str(tmp_path), [])[1:] == ("bfloat16", "dense")
    theirs = json.loads((tmp_path / "config.json").read_text())
    theirs["quantization_config"] = {"quant_method": "hanok", "modules": {"head": "int8"}}
    assert stored_kind(theirs) == "int8"
    for model, dials in (("nonsense", []), (str(tmp_path), ["depth=3"])):
        with pytest.raises(UsageError):
            find(model, dials)


def test_the_whole_verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from hanok.cli import execute

    monkeypatch.setattr(forecast, "read_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(forecast, "matmul_peak", lambda dtype, device: 1e9)
    dials = [f"{name}={value}" for name, value in TINY.items()]
    sizes = ["--input-len", "8", "--output-len", "4", "--batch-sizes", "1", "2"]
    assert execute(["plan", "serve", "llama-tiny", *dials, *sizes, "--memory", "1GiB", "--check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["batches"].keys() == found["measured"].keys() == {"1", "2"}
    for batch, name in itertools.product("12", forecast.FIGURES):
        off = found["batches"][batch][name] / found["measured"][batch][name] - 1
        assert found["errors"][batch][name] == pytest.approx(off)
    assert execute(["plan", "serve", "llama-tiny", *dials, *sizes]) == 0
    assert "sequences at once" in capsys.readouterr().out
    for wrong in (["--memory", "much"], ["--batch-sizes", "0"], ["--input-len", "99"], ["--weights", "int3"]):
        assert execute(["plan", "serve", "llama-tiny", *dials, *wrong]) == 2
