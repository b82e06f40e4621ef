"""Tokenizers: text to ids and back, in the Hugging Face file format; each kind is a way to train one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tokenizers

from hanok.core.registry import Registry

TOKENIZERS: Registry[Callable[[Iterable[str], int], tokenizers.Tokenizer]] = Registry("tokenizer", __name__)

from hanok.text.tokenizer.detokenizer import Detokenizer as Detokenizer  # noqa: E402
from hanok.text.tokenizer.tokenizer import Tokenizer as Tokenizer  # noqa: E402
