"""A tokenizer with more special tokens behind its vocabulary: the marks that an objective needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hanok.text.tokenizer.tokenizer import Tokenizer


def with_specials(tokenizer: Tokenizer, names: Sequence[str], **roles: str) -> Tokenizer:
    """Return the tokenizer with special tokens of these names at the end of its vocabulary.

    `roles` go into its configuration (`mask_token="<|mask|>"`). Ids that it has stay as they are, names too.
    """
    data = json.loads(tokenizer.to_json())
    missing = [name for name in names if tokenizer.token_id(name) is None]
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first = tokenizer.vocab_size
    data["added_tokens"] += [{"id": first + i, "content": name, **marks} for i, name in enumerate(missing)]
    return Tokenizer.from_json(json.dumps(data), {**tokenizer.config, **roles}, where=Path("tokenizer.json"))
