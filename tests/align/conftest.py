"""A tiny model that speaks, and files of preferences and prompts, for the tests of alignment."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer
from hanok.train.bundle import Bundle

LETTERS = "abcdefgh"


@pytest.fixture(autouse=True)
def threads() -> None:
    """One thread: these models are so small that a second one would only wait."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    rng = random.Random(0)
    return Tokenizer.train([" ".join(rng.choices(LETTERS, k=20)) for _ in range(50)], vocab_size=280)


@pytest.fixture
def speaker(tokenizer: Tokenizer) -> Callable[..., LLM]:
    """Return a builder of tiny models with a tokenizer and a chat format."""

    def build(kind: str = "llama-tiny", **dials: Any) -> LLM:
        dials = {"vocab": tokenizer.vocab_size, "dim": 32, "depth": 2, "context": 96, **dials}
        if kind == "griffin-tiny":
            dials["depth"] = 3
        model = Model(ModelConfig.preset(kind, **dials), seed=1)
        return LLM(model, tokenizer, CHATS["chatml"]())

    return build


@pytest.fixture
def home(tmp_path: Path, speaker: Callable[..., LLM]) -> Path:
    """Return a directory with a model and the files that DPO and GRPO read."""
    llm = speaker()
    assert llm.tokenizer is not None
    Bundle(llm.model, llm.tokenizer, llm.chat).save(tmp_path / "model")
    rng = random.Random(1)
    pairs, prompts = [], []
    for _ in range(40):
        letter = rng.choice(LETTERS)
        pairs.append({"prompt": letter, "chosen": letter.upper(), "rejected": rng.choice("XYZ")})
        prompts.append({"prompt": [{"role": "user", "content": letter}], "answer": letter, "task": None})
    write(tmp_path / "preferences.jsonl", pairs)
    write(tmp_path / "prompts.jsonl", prompts)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
