"""A tiny model with random weights, served in exact numerics: what it says is nonsense, and always the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.serve import Server
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog. 동해 물과 백두산이 마르고 닳도록",
    "a b c d e 0 1 2 3 4 5 6 7 8 9",
]


@pytest.fixture(scope="session")
def llm() -> LLM:
    """A model of which a step takes about a millisecond."""
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    config = ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=32, depth=2, context=512)
    return LLM(Model(config, seed=3), tokenizer, CHATS["chatml"]())


@pytest.fixture(scope="session")
def server(llm: LLM) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    with Server(
        llm, port=0, model_name="tiny", max_queue=200, engine={"max_sequences": 16, "numerics": "exact"}
    ) as running:
        yield running
