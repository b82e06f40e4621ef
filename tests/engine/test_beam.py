"""Beam search: the same texts and scores as transformers', for attention, recurrence, hybrids and encoder-decoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hanok
from hanok.core.errors import UsageError
from hanok.engine.choose import log_probs
from hanok.engine.local import LLM
from hanok.model.weights import TokenIds

transformers = pytest.importorskip("transformers")

COMMON = {"vocab_size": 41, "bos_token_id": None, "pad_token_id": 0}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
MODELS: dict[str, Callable[..., Any]] = {
    "llama": lambda **ids: transformers.LlamaForCausalLM(transformers.LlamaConfig(**COMMON, **SMALL, **HEADS, **ids)),
    "mamba": lambda **ids: transformers.MambaForCausalLM(transformers.MambaConfig(**COMMON, **SMALL, **ids)),
    "t5": lambda **ids: transformers.T5ForConditionalGeneration(transformers.T5Config(**COMMON, **T5, **ids)),
}
SETTINGS: list[tuple[float, Any]] = [(0.0, "never"), (1.0, False), (1.0, True), (2.0, "never"), (-1.0, False)]


def pair(kind: str, path: Path, eos: Any, seed: int) -> tuple[Any, LLM]:
    """Return transformers' random model and ours of the same weights, with logits that differ enough."""
    torch.manual_seed(seed)
    theirs = MODELS[kind](eos_token_id=eos).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.15)
    theirs.save_pretrained(path)
    return theirs, hanok.load(path)


@pytest.mark.parametrize(("kind", "eos"), [("llama", [3, 17, 20]), ("mamba", 5), ("t5", [1, 3, 17, 20])])
def test_texts_and_scores_equal_transformers(tmp_path: Path, kind: str, eos: Any) -> None:
    theirs, ours = pair(kind, tmp_path, eos, seed=2)
    finished = 0
    for at, (penalty, early) in enumerate(SETTINGS):
        prompt = torch.randint(1, 41, (1, 4 + at), generator=torch.Generator().manual_seed(at))
        beams = 2 + at % 3
        want = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=9,
            num_beams=beams,
            num_return_sequences=beams,
            length_penalty=penalty,
            early_stopping=early,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        found = ours.beam_search(prompt[0].tolist(), 9, beams=beams, length_penalty=penalty, early_stopping=early)
        begin = 1 if kind == "t5" else prompt.shape[1]
        for beam, row, score in zip(found, want.sequences[:, begin:].tolist(), want.sequences_scores, strict=True):
            assert row[: len(beam.tokens)] == beam.tokens and set(row[len(beam.tokens) :]) <= {0, *ours.stop_ids}
            assert beam.score == pytest.approx(float(score), rel=2e-4, abs=2e-4)
            finished += beam.tokens[-1] in ours.stop_ids
    assert finished  # some end by themselves, and not only by their length


@pytest.mark.parametrize("kind", ["gqa", "window", "rglru", "hybrid"])
def test_scores_are_those_of_whole_forwards(build: Callable[..., LLM], kind: str) -> None:
    """Forked memories of every kind: each text's log-prob is what a forward over all of it says."""
    llm = build(kind)
    llm.ids = TokenIds(eos=(7, 11))
    prompt = [5, 6, 7, 8] * 6
    found = llm.beam_search(prompt, 16, beams=4)
    assert len({tuple(beam.tokens) for beam in found}) == 4
    assert [beam.score for beam in found] == sorted((beam.score for beam in found), reverse=True)
    for beam in found:
        whole = llm.logprobs(torch.tensor([[*prompt, *beam.tokens]]))[0, len(prompt) - 1 :].sum()
        assert beam.logprob == pytest.approx(float(whole), abs=1e-9)


def test_wide_beams_find_the_best(build: Callable[..., LLM]) -> None:
    """As wide as there are texts, the search is exhaustive: the likeliest of all pairs, by enumeration."""
    llm = build("gqa", vocab=9)
    rows = torch.tensor([[1, 2, a] for a in range(9)])
    with torch.no_grad():
        first = log_probs(llm.model(torch.tensor([[1, 2]])))[0, -1]
        second = log_probs(llm.model(rows))[:, -1]
    every = (first[:, None] + second).flatten().sort(descending=True)
    found = llm.beam_search([1, 2], 2, beams=60, length_penalty=0.0)
    assert [beam.tokens[0] * 9 + beam.tokens[1] for beam in found] == every.indices[:60].tolist()
    assert [beam.score for beam in found] == pytest.approx(every.values[:60].tolist())


def test_one_beam_is_greedy(build: Callable[..., LLM], chatty: LLM) -> None:
    llm = build("hybrid")
    assert llm.beam_search([1, 2, 3], 20, beams=1)[0].tokens == llm.generate([1, 2, 3], 20).tokens
    found = chatty.beam_search("hello", 5, beams=2)[0]
    assert chatty.tokenizer is not None and found.text == chatty.tokenizer.decode(found.tokens)


def test_bad_options(build: Callable[..., LLM]) -> None:
    for options in ({"beams": 0}, {"beams": 65}, {"length_penalty": float("nan")}, {"early_stopping": "sometimes"}):
        with pytest.raises(UsageError, match=next(iter(options))):
            build("gqa").beam_search([1], 4, **options)
