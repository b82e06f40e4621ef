"""One of several texts."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from hanok.core.errors import UsageError, require
from hanok.engine.grammar import GRAMMARS

MOST = 1_024


@GRAMMARS.register("choice")
class Choice:
    """One of several texts, letter by letter."""

    limit: ClassVar[int] = 64 * 1024

    @staticmethod
    def text(value: Any) -> str:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            raise UsageError("choice must be a list of strings with something in each")
        if not 1 <= len(value) <= MOST:
            raise UsageError(f"choice must have from 1 to {MOST} strings, not {len(value)}")
        return json.dumps(list(value), ensure_ascii=False)

    @staticmethod
    def rules(text: str) -> str:
        library = require("llguidance", extra="structured")
        words = " | ".join(json.dumps(word, ensure_ascii=False) for word in json.loads(text))
        rules: str = library.LLMatcher.grammar_from_lark(f"start: {words}")
        return rules
