"""What `hanok run` does not wait for: the compiler and other libraries that the first token does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.tokenizer import Tokenizer

HEAVY = ("torch._dynamo", "torch._inductor", "sympy", "scipy", "transformers", "pandas", "fastapi", "plotly")
SCRIPT = f"""
import json, sys
from hanok.cli import execute
code = execute(["run", sys.argv[1], "a b", "--max-tokens", "2"])
print("\\n" + json.dumps([code, [name for name in {HEAVY} if name in sys.modules]]))
"""


def test_the_first_token_waits_for_no_compiler(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["a b c d e f g"], vocab_size=300)
    config = ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=32, depth=1)
    LLM(Model(config), tokenizer).save(tmp_path)
    words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    told = subprocess.run(words, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert json.loads(told.stdout.splitlines()[-1]) == [0, []]
