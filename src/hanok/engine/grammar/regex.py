"""Text that a regular expression matches as a whole."""

from __future__ import annotations

from typing import Any, ClassVar

from hanok.core.errors import require
from hanok.engine.grammar import GRAMMARS, check_size, string
from hanok.engine.grammar.size import check_regex


@GRAMMARS.register("regex", paper="https://docs.rs/regex/latest/regex/#syntax")
class Regex:
    """Text that a regular expression matches from end to end; no look-around and no back references."""

    limit: ClassVar[int] = 16 * 1024

    @staticmethod
    def text(value: Any) -> str:
        return check_regex(check_size(string(value, "regex"), "regex", Regex.limit))

    @staticmethod
    def rules(text: str) -> str:
        library = require("llguidance", extra="structured")
        rules: str = library.LLMatcher.grammar_from_regex(text)
        return rules
