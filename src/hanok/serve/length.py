"""Texts that are far too long for the context are refused before all of them is tokenised, which takes much memory."""

from __future__ import annotations

from hanok.serve.errors import ApiError
from hanok.text.tokenizer import Tokenizer

SHORT = 64 * 1024  # characters that are tokenised without a look at them
FAR = 2  # contexts full of tokens in the beginning of a text: the rest cannot make them fewer
PER_TOKEN = 8  # characters of the first piece per token of the context; each next piece is twice as long


def check_length(tokenizer: Tokenizer | None, texts: list[str], context: int, *, param: str) -> None:
    """Refuse with 400 texts that surely have too many tokens together, at a cost that the context bounds."""
    if tokenizer is None or sum(map(len, texts)) <= SHORT:
        return
    count = 0
    for text in texts:
        size = max(SHORT, PER_TOKEN * context)
        found = len(tokenizer.encode(text[:size])) if len(text) > size else 0
        while len(text) > size and count + found <= FAR * context:
            size *= 2
            found = len(tokenizer.encode(text[:size])) if len(text) > size else found
        count += found
        if count > FAR * context:
            message = f"the context holds {context} tokens; this has far more"
            raise ApiError(400, f"{param}: {message}", param=param, code="context_length_exceeded")
