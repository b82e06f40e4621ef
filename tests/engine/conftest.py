"""Small random models of every kind of memory, and the plain greedy loop that the engine must agree with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer

VOCAB = 97
# word -> (preset, its dials): attention, sliding window, recurrence, and a hybrid of the last two
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gqa": ("llama-tiny", {"dim": 32, "depth": 2, "heads": 4, "kv_heads": 2}),
    "window": ("llama-tiny", {"dim": 32, "depth": 2, "heads": 4, "kv_heads": 1, "window": 21}),
    "rglru": ("rglru-tiny", {"dim": 32, "depth": 2}),
    "hybrid": ("griffin-tiny", {"dim": 32, "depth": 3, "heads": 4, "kv_heads": 1, "window": 17}),
}


@pytest.fixture(scope="session")
def build() -> Callable[..., LLM]:
    """Return a function (kind, dtype) -> LLM without tokenizer."""

    def make(kind: str, dtype: torch.dtype = torch.float64, **dials: Any) -> LLM:
        preset, own = KINDS[kind]
        model = Model(ModelConfig.preset(preset, **{"vocab": VOCAB, "context": 256, **own, **dials}), seed=3)
        return LLM(model.to(dtype))

    return make


@pytest.fixture(scope="session")
def greedy() -> Callable[[LLM, list[int], int], list[int]]:
    """Return the reference: a whole Dense forward per token, no cache anywhere."""

    @torch.no_grad()
    def decode(llm: LLM, prompt: list[int], count: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(llm.model(torch.tensor([tokens]))[0, -1].argmax()))
        return tokens[len(prompt) :]

    return decode


@pytest.fixture(scope="session")
def chatty(build: Callable[..., LLM]) -> LLM:
    tokenizer = Tokenizer.train(["hello world, 안녕 세상"] * 4, vocab_size=300)
    return LLM(build("gqa", torch.float32, vocab=300).model, tokenizer, CHATS["chatml"]())
