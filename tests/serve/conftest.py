"""A tiny model that has learned a few answers by heart, served for real."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
import torch

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.serve import Server
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer

KOREAN = (
    "안녕하세요! 한옥은 나무로 짠 집입니다. 방마다 마루로 통하고, 온돌이 바닥을 데웁니다. 🏠 더 궁금한 것이 있나요?"
)
ENGLISH = "A hanok is a wooden house:\n\n- **rooms** open onto one court\n- the floor is `warm`\n\nAsk me more."
THOUGHT = "<think>Seven and five make twelve.</think>It is 12."
ANSWERS = {"한옥이 뭐야?": KOREAN, "What is a hanok?": ENGLISH, "What is 7 + 5?": THOUGHT}


def tiny_llm(preset: str = "llama-tiny") -> LLM:
    """Return a model of which a step takes about a millisecond, trained until it knows `ANSWERS`."""
    texts = [
        *ANSWERS,
        *ANSWERS.values(),
        "The quick brown fox jumps over the lazy dog. 동해 물과 백두산이 마르고 닳도록",
    ]
    tokenizer = Tokenizer.train(texts, vocab_size=400)
    config = ModelConfig.preset(preset, vocab=tokenizer.vocab_size, dim=64, depth=2, context=256)
    llm = LLM(Model(config, seed=1), tokenizer, CHATS["chatml"]())
    learn(llm)
    return llm


def learn(llm: LLM, steps: int = 90) -> None:
    """Teach the model its answers, and nothing else."""
    assert llm.tokenizer is not None and llm.chat is not None
    torch.set_num_threads(1)  # for matrices this small a second thread only waits
    rows = []
    for question, answer in ANSWERS.items():
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append(torch.tensor([llm.chat.encode(llm.tokenizer, turns).tokens]))
    optimizer = torch.optim.AdamW(llm.model.parameters(), lr=4e-3)
    for _ in range(steps):
        for row in rows:
            logits = llm.model(row[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.05, f"the model has not learned its answers ({loss.item():.3f})"


@pytest.fixture(scope="session")
def llm() -> LLM:
    """The model that every test serves."""
    return tiny_llm()


@pytest.fixture(scope="session")
def server(llm: LLM) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    with Server(
        llm, port=0, model_name="tiny", max_queue=100, engine={"max_sequences": 16}, metrics_compat="vllm"
    ) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=server.api_url, api_key="unused", max_retries=0, timeout=30) as made:
        yield made
