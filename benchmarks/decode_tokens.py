"""Greedy decode tokens per second against transformers' generate: the same random model, prompts and lengths."""

from __future__ import annotations

from typing import Any

import torch
from common import MEDIUM, SMALL, arguments, interleave, report, twins

import hanok

SHAPES = {"1 M": SMALL, "11 M": MEDIUM}
PROMPT, NEW = 32, 64


def our_answers(llm: Any, prompts: torch.Tensor, numerics: str) -> list[list[int]]:
    """Answer every prompt through hanok's engine."""
    requests = [hanok.Request(row, NEW, temperature=0.0, ignore_eos=True) for row in prompts.tolist()]
    return [output.tokens for output in hanok.Engine(llm, numerics=numerics).generate(requests)]


@torch.inference_mode()
def their_answers(model: Any, prompts: torch.Tensor) -> list[list[int]]:
    """Answer every prompt through transformers' generate."""
    mask = torch.ones_like(prompts)
    length = {"max_new_tokens": NEW, "min_new_tokens": NEW}
    out: torch.Tensor = model.generate(prompts, attention_mask=mask, do_sample=False, **length)
    return out[:, PROMPT:].tolist()


def compare(name: str, streams: int, llm: Any, theirs: Any, options: Any) -> None:
    """Time both on the same prompts, in fast and in exact numerics."""
    prompts = torch.randint(3, llm.model.config.vocab, (streams, PROMPT))
    want = their_answers(theirs, prompts)
    for numerics in ("fast", "exact"):
        equal = sum(a == b for a, b in zip(our_answers(llm, prompts, numerics), want, strict=True))
        times = interleave(
            lambda mode=numerics: our_answers(llm, prompts, mode),  # type: ignore[misc]
            lambda: their_answers(theirs, prompts),
            options.rounds,
        )
        title = f"decode {name}, {streams} streams, {numerics} ({equal}/{streams} equal)"
        report(title, streams * NEW, times, as_json=options.json)


def main() -> None:
    options = arguments(__doc__ or "")
    for name, shape in SHAPES.items():
        llm, theirs = twins(**shape)
        theirs.generation_config.pad_token_id = 0
        for streams in (1, 8, 32):
            compare(name, streams, llm, theirs, options)


if __name__ == "__main__":
    main()
