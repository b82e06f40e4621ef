"""Memory, the largest batch, and tokens per second of a server, from what this machine was measured to do.

seconds of a step = seconds of all but the products (a hollow model's step) + sum over its products of their seconds.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hanok.core.device import memory_bytes
from hanok.core.errors import HanokError, UsageError
from hanok.engine.config import EngineConfig
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.store import page_bytes
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.packing import pack_weights
from hanok.model.size import count_model, stored
from hanok.nn.context import PerSequence
from hanok.nn.linear import Linear
from hanok.ops.peak import matmul_peak
from hanok.recipes.bench.offline import Load, measure
from hanok.recipes.bench.runner import Hanok
from hanok.recipes.bench.subject import check_lengths, prompts
from hanok.recipes.sizing.hollow import Hollow, Product, Step
from hanok.recipes.sizing.products import Ground, read_bandwidth, seconds_of

DECODE = 24  # steps that a hollow model is timed for
SHARE = 0.8  # of the memory, where no budget is given
FIGURES = ("ttft_ms", "itl_ms", "latency_ms")


@dataclass(frozen=True)
class Service:
    """What is to be served: prompts of a length with answers of a length, in batches; and the engine's settings."""

    input_len: int = 128
    output_len: int = 128
    batches: Sequence[int] = (1, 8, 32)
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: int | None = None


def memory(config: ModelConfig, ground: Ground, service: Service) -> dict[str, Any]:
    """Return the bytes of weights and of a sequence, and how many sequences of the whole length the budget holds.

    Pages are counted whole. What the products pass on, the program itself and its libraries come on top.
    """
    model = Model(config, device="meta").to(ground.dtype)
    if ground.kind != "dense":
        pack_weights(model, ground.kind)
    engine = EngineConfig.parse(dict(service.settings))
    weights = sum(tensor.nbytes for tensor in stored(model).values())
    specs = model.memory()
    page = page_bytes(specs, engine.page_size, ground.dtype)
    state = count_model(model).state_bytes if any(isinstance(spec, PerSequence) for spec in specs) else 0
    length = service.input_len + service.output_len - 1  # the last token is never read
    pages = -(-length // engine.page_size)
    each = pages * page + state
    budget = int(SHARE * memory_bytes()) if service.budget is None else service.budget
    room = budget - weights
    largest = room // each if each and room > 0 else 0
    return {
        "weights_bytes": weights,
        "kv_bytes_per_token": page // engine.page_size,
        "state_bytes_per_sequence": state,
        "bytes_per_sequence": each,
        "memory_budget_bytes": budget,
        "largest_batch": largest,
        "largest_context": min(config.context, max(0, (room - state) // page * engine.page_size)) if page else None,
        "fits": largest > 0,
        "engine": f"engine.max_sequences={largest}" + (f" engine.num_pages={largest * pages}" if page else ""),
    }


def speed(config: ModelConfig, ground: Ground, service: Service) -> dict[str, Any]:
    """Return this machine's rates, and for each batch the predicted times and tokens per second."""
    check_lengths(config.context, service.input_len, service.output_len)
    if any(batch < 1 for batch in service.batches):
        raise UsageError(f"a batch has at least one prompt, not {min(service.batches)}")
    hollow = Hollow(config, ground.dtype, ground.device)
    walks = {batch: _walks(hollow, batch, service) for batch in service.batches}
    weights = sum(t.nbytes for t in stored(hollow.llm.model).values())
    asked = {product for pair in walks.values() for steps in pair for step in steps for product in step.products}
    idle = hollow.call_seconds()  # in the hollow step already
    each = {what: max(0.0, took - idle) for what, took in seconds_of(asked, ground, between=weights).items()}
    bandwidth = read_bandwidth(ground.device)
    return {
        "memory_bandwidth": bandwidth,
        "matmul_flops": matmul_peak(ground.dtype, ground.device),
        "batches": {batch: _figures(batch, pair, each, service) for batch, pair in walks.items()},
    }


def _walks(hollow: Hollow, batch: int, service: Service) -> tuple[list[Step], list[Step]]:
    """Return the steps that read the prompts, and the steps that write amid the answers."""
    draw = random.Random(0)
    vocab = hollow.llm.config.vocab
    engine = Engine(hollow.llm, **{**service.settings, "max_sequences": max(batch, _most(service))})
    hollow.walk(engine, prompts(batch, service.input_len, vocab, draw), min(2, service.output_len))
    reads = hollow.walk(engine, prompts(batch, service.input_len, vocab, draw), 1)
    done = sum(2 * p.inputs * p.outputs * p.rows * count for step in reads for p, count in step.products.items())
    if done < batch * service.input_len * _least(hollow):
        raise HanokError("the products of this model could not be counted, so that its speed cannot be predicted")
    amid = max(1, min(DECODE, service.output_len - 1))
    length = service.input_len + max(0, service.output_len - amid) // 2
    writes = hollow.walk(engine, prompts(batch, length, vocab, draw), amid + 1)
    return reads, [step for step in writes if len(step.ids) == batch][-amid:]


def _least(hollow: Hollow) -> int:
    """Return FLOPs that a token of a prompt takes at the least: half of those of the layers' products."""
    model = hollow.llm.model
    linears = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    aside = [linears[name] for name in {"head", *hollow.direct} & set(linears)]
    return int(count_model(model).flops - sum(2 * each.inputs * each.outputs for each in aside)) // 2


def _most(service: Service) -> int:
    return EngineConfig.parse(dict(service.settings)).max_sequences


def _figures(
    batch: int, pair: tuple[list[Step], list[Step]], each: Mapping[Product, float], service: Service
) -> dict[str, float]:
    def seconds(step: Step) -> float:
        return step.seconds + sum(each[product] * count for product, count in step.products.items())

    reads, writes = pair
    now, first = 0.0, []
    for step in reads:
        now += seconds(step)
        first += [now] * len(step.ids)
    gap = statistics.median(seconds(step) for step in writes) if writes else 0.0
    latency = now + gap * (service.output_len - 1)
    return {
        "ttft_ms": 1e3 * statistics.fmean(first),
        "itl_ms": 1e3 * gap,
        "latency_ms": 1e3 * latency,
        "overhead_ms": 1e3 * statistics.median(step.seconds for step in writes) if writes else 0.0,
        "prefill_tokens_per_second": batch * service.input_len / now,
        "decode_tokens_per_second": batch / gap if gap else 0.0,
        "output_tokens_per_second": batch * service.output_len / latency,
    }


def check(llm: LLM, service: Service, *, rounds: int = 3) -> dict[int, dict[str, float]]:
    """Measure what was predicted: the same loads, with the model itself, by the latency benchmark."""
    found = {}
    for batch in service.batches:
        runner = Hanok(llm, {**service.settings, "max_sequences": max(batch, _most(service))})
        load = Load(batch, service.input_len, service.output_len, rounds, 1)
        samples = measure(llm, load, {"hanok": runner})["hanok"]
        found[batch] = {
            "ttft_ms": 1e3 * statistics.median(statistics.fmean(s.ttft for s in batch) for batch in samples),
            "itl_ms": 1e3 * statistics.median([g for batch in samples for s in batch for g in s.itl] or [0.0]),
            "latency_ms": 1e3 * statistics.median(max(s.e2el for s in batch) for batch in samples),
        }
    return found


def errors(predicted: Mapping[int, Mapping[str, float]], measured: Mapping[int, Mapping[str, float]]) -> dict[int, Any]:
    """Return predicted over measured, less one, by batch and figure."""
    return {
        batch: {name: predicted[batch][name] / row[name] - 1 for name in FIGURES if row[name]}
        for batch, row in measured.items()
    }


def stored_kind(theirs: Mapping[str, Any]) -> str:
    """Return the format that a folder's matrices are packed in, by its config.json."""
    packed = theirs.get("quantization_config")
    kinds = set(packed.get("modules", {}).values()) if isinstance(packed, dict) else set()
    return str(kinds.pop()) if len(kinds) == 1 and kinds <= set(Linear.formats) else "dense"
