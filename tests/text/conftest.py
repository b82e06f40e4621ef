from __future__ import annotations

import pytest

from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.fertility import ENGLISH, KOREAN


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([*ENGLISH, *KOREAN] * 4, vocab_size=512)
