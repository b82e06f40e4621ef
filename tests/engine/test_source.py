"""Encoder-decoders in the engine: the prompt is what the encoder reads; batches, chunks and preemption change nothing.

A model with recurrent layers, with attention, with relative positions, with mixtures: each must give the tokens of a
plain loop over whole forwards, and in exact numerics log-probs with the bits of `llm.logprobs(tokens, source)`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

import hanok
from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.layout import Row
from hanok.engine.local import LLM
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Read
from hanok.engine.request import Output, Request
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.model import Model
from hanok.model.weights import TokenIds
from hanok.text.tokenizer import Tokenizer

VOCAB = 61
T5 = {"d_model": 32, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 5, "vocab_size": VOCAB}
SWITCH = T5 | {"encoder_sparse_step": 1, "decoder_sparse_step": 2, "num_experts": 3, "expert_capacity": 4096}
CONFIGS: dict[str, Callable[[], ModelConfig]] = {
    "transformer": lambda: ModelConfig.preset("transformer", vocab=VOCAB, dim=32, depth=2, heads=4, context=160),
    "additive": lambda: ModelConfig.preset("seq2seq", vocab=VOCAB, dim=32, cross="additive", context=160),
    "fixed": lambda: ModelConfig.preset("seq2seq", vocab=VOCAB, dim=32, cross="fixed", cell="gru", context=160),
    "t5": lambda: FAMILIES["t5"].read_config(T5),
    "switch": lambda: FAMILIES["switch_transformers"].read_config(SWITCH),
}
KINDS = sorted(CONFIGS)


def build(kind: str, dtype: torch.dtype = torch.float64) -> LLM:
    model = Model(CONFIGS[kind](), seed=3).to(dtype)
    for parameter in model.parameters():  # T5's small logits would all be alike
        parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(8)) * 0.1)
    return LLM(model, ids=TokenIds(start=2))


def prompts(count: int) -> list[list[int]]:
    rng = random.Random(1)
    return [[rng.randrange(VOCAB) for _ in range(rng.choice((1, 5, 33, 40)))] for _ in range(count)]


@torch.no_grad()
def greedy(llm: LLM, prompt: list[int], count: int) -> list[int]:
    """Return the reference: encoder and decoder afresh for every token."""
    tokens = [2]
    for _ in range(count):
        tokens.append(int(llm.model(torch.tensor([tokens]), source=torch.tensor([prompt]))[0, -1].argmax()))
    return tokens[1:]


def run(engine: Engine, requests: list[Request], arrivals: int) -> list[Output]:
    """Let requests come in while others run, and check the pool after every step."""
    waiting, ids, outputs = list(requests), [], {}
    while waiting or engine.has_work:
        for _ in range(min(arrivals, len(waiting))):
            ids.append(engine.add(waiting.pop(0)))
        for event in engine.step():
            assert event.error is None
            if event.output is not None:
                outputs[event.id] = event.output
        engine.check()
    return [outputs[id] for id in ids]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_of_many_requests(kind: str) -> None:
    llm, given = build(kind), prompts(5)
    requests = [Request(prompt, max_tokens=5 + 3 * at, temperature=0.0) for at, prompt in enumerate(given)]
    outputs = run(Engine(llm, numerics="fast", max_sequences=4, page_size=8), requests, 2)
    for prompt, request, output in zip(given, requests, outputs, strict=True):
        assert output.tokens == greedy(llm, prompt, request.max_tokens or 0)
    assert len({tuple(output.tokens[:5]) for output in outputs}) > 1, "what is written must depend on what was read"


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_exact_logprobs_are_those_of_a_whole_forward(kind: str, dtype: torch.dtype) -> None:
    llm, given = build(kind, dtype), prompts(5)
    requests = [Request(prompt, max_tokens=12, temperature=0.8, seed=at, logprobs=0) for at, prompt in enumerate(given)]
    engine = Engine(llm, numerics="exact", max_sequences=4, page_order="shuffled")
    for prompt, output in zip(given, run(engine, requests, 3), strict=True):
        whole = torch.tensor([[2, *output.tokens]])
        with hanok.numerics("exact"):
            assert llm.logprobs(whole, torch.tensor([prompt]))[0].tolist() == output.logprobs


@pytest.mark.parametrize(
    "kind", ["t5", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("switch", "transformer"))]
)
def test_a_small_pool_preempts_and_changes_nothing(kind: str) -> None:
    llm, given = build(kind, torch.float32), prompts(5)
    requests = [Request(prompt, max_tokens=40, temperature=0.7, seed=at, logprobs=0) for at, prompt in enumerate(given)]
    roomy = Engine(llm, numerics="exact").generate(requests)
    tight = Engine(llm, numerics="exact", num_pages=4)
    assert run(tight, requests, 5) == roomy
    assert tight.stats().preemptions > 0, "the pool must be too small for all"


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_fork_reads_the_same_source(kind: str) -> None:
    llm = build(kind)
    pool, source = Pool(llm.model.memory(), 20, page_size=8, dtype=torch.float64), torch.tensor([[5, 9, 1, 30]])

    def read(slot: Any, ids: list[int]) -> torch.Tensor:
        row = Row(slot, slot.length, len(ids))
        pool.append(slot, len(ids))
        out: torch.Tensor = llm.model(torch.tensor([ids]), Paged(pool, [row]))[0, -1]
        return out

    slot = pool.open()
    slot.source = Read(llm.model.encode(source).states)
    read(slot, [2, 7, 3])
    twin = pool.fork(slot)
    for own, ids in ((slot, [11, 4]), (twin, [12])):
        want = llm.model(torch.tensor([[2, 7, 3, *ids]]), source=source)[0, -1]
        torch.testing.assert_close(read(own, ids), want, rtol=1e-10, atol=1e-10)
    assert twin.source is slot.source, "what was made of the source is made once"
    for own in (slot, twin):
        pool.close(own)
    pool.check()


def test_streams_and_texts() -> None:
    tokenizer = Tokenizer.train(["a source of words, and what is made of it"] * 4, vocab_size=300)
    config = ModelConfig.preset("transformer", vocab=300, dim=32, depth=1, heads=4, context=64)
    llm = LLM(Model(config), tokenizer)
    assert tokenizer.bos_id is not None and tokenizer.eos_id is not None and llm.start_ids == [tokenizer.bos_id]
    pieces = list(llm.stream("a source", 12, ignore_eos=True))
    output = llm.generate("a source", 12, ignore_eos=True)
    assert pieces[-1].output == output and "".join(piece.text for piece in pieces) == output.text
    assert [token for piece in pieces for token in piece.tokens] == output.tokens
    ids = [tokenizer.bos_id, *tokenizer.encode("a source"), tokenizer.eos_id]
    assert llm.generate(ids, 12, ignore_eos=True).tokens == output.tokens, "a text is ended, ids are taken as they are"
    with torch.no_grad():
        best = llm.model(torch.tensor([[tokenizer.bos_id]]), source=torch.tensor([ids]))[0, -1].argmax()
    assert output.tokens[0] == int(best)


def test_experts_that_overflow_are_shared_by_a_step() -> None:
    """A limit on an expert's tokens holds for a step of the engine: neighbours matter, which is why it is said."""
    given = prompts(5)
    requests = [Request(prompt, max_tokens=8, temperature=0.0, logprobs=0, ignore_eos=True) for prompt in given]
    for capacity, alike in ((4096, True), (1, False)):
        config = FAMILIES["switch_transformers"].read_config(SWITCH | {"expert_capacity": capacity})
        assert config.layers["sparse"].ffn.router.capacity == capacity
        llm = build("switch", torch.float32)
        tight = LLM(Model(config), ids=TokenIds(start=2))
        tight.model.load_state_dict(llm.model.state_dict())
        together = Engine(tight, numerics="exact").generate(requests)
        alone = [Engine(tight, numerics="exact").generate([request])[0] for request in requests]
        assert (together == alone) is alike, capacity


def test_what_cannot_work_is_refused() -> None:
    llm = build("transformer")
    engine = Engine(llm)
    for request, message in (
        (Request([1, VOCAB]), "vocabulary"),
        (Request([1], max_tokens=200), "context of 160"),
        (Request("text"), "no tokenizer"),
    ):
        with pytest.raises(UsageError, match=message):
            engine.add(request)
    assert not engine.has_work
    position = {"kind": "learned", "length": 9}
    config = llm.config.to_dict() | {"embed": {"position": position}}
    ended = LLM(Model(ModelConfig.parse(config)), ids=TokenIds(start=2))
    assert len(ended.generate([1] * 9, 4).tokens) == 4
    with pytest.raises(UsageError, match="positions end at 9"):
        ended.generate([1] * 10, 4)
