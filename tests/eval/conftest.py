import pytest

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer

TEXTS = [
    "The house stands on a stone base, and its timber frame is held together by joints rather than nails.",
    "한옥은 나무로 뼈대를 세우고 못 대신 짜맞춤으로 기둥과 보를 이어 만든 집입니다.",
    "A function that returns early is easier to read. " * 6,
    "x",
    "겨울에는 바닥을 데워 방을 따뜻하게 합니다. 🏠 " * 4,
]


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(TEXTS * 4, vocab_size=320)


@pytest.fixture(scope="session", params=["llama-tiny", "griffin-tiny"])
def llm(request, tokenizer):
    config = ModelConfig.preset(request.param, vocab=tokenizer.vocab_size, dim=64, context=64)
    return LLM(Model(config, seed=1), tokenizer, CHATS["chatml"]())


@pytest.fixture(scope="session")
def texts():
    return TEXTS
