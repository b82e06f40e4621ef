"""hanok: one package for the whole life of a language model. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hanok.engine.engine import Engine as Engine
    from hanok.engine.local import LLM as LLM
    from hanok.engine.local import load as load
    from hanok.engine.request import Output as Output
    from hanok.engine.request import Request as Request
    from hanok.model.config import ModelConfig as ModelConfig
    from hanok.model.model import Model as Model
    from hanok.ops.numerics import numerics as numerics
    from hanok.text.tokenizer import Tokenizer as Tokenizer

__version__ = "0.1.0"

# Waiting threads of a parallel region should spin for microseconds, then sleep: with the default they spin on, and two
# programs on one machine slow each other down tenfold and more (docs/decisions/006). Read by libgomp when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_PUBLIC = {
    "Engine": "hanok.engine.engine",
    "LLM": "hanok.engine.local",
    "Model": "hanok.model.model",
    "ModelConfig": "hanok.model.config",
    "Output": "hanok.engine.request",
    "Request": "hanok.engine.request",
    "Tokenizer": "hanok.text.tokenizer",
    "load": "hanok.engine.local",
    "numerics": "hanok.ops.numerics",
}
__all__ = ["LLM", "Engine", "Model", "ModelConfig", "Output", "Request", "Tokenizer", "load", "numerics"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hanok' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
