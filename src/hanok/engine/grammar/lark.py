"""A context-free grammar."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from hanok.core.errors import UsageError, require
from hanok.engine.grammar import GRAMMARS, check_size, string
from hanok.engine.grammar.json_schema import check
from hanok.engine.grammar.size import check_rules


@GRAMMARS.register("lark", paper="https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md")
class Lark:
    """A context-free grammar in Lark's notation (rule `start`), or in llama.cpp's (GBNF, rule `root`)."""

    limit: ClassVar[int] = 64 * 1024

    @staticmethod
    def text(value: Any) -> str:
        text = check_size(string(value, "lark"), "lark", Lark.limit)
        if "%llguidance" in text:
            raise UsageError("lark: options of the library (%llguidance) are not taken from a grammar")
        if "::=" in text:
            text = check_size(_from_gbnf(text), "lark", 4 * Lark.limit)
        for schema in check_rules(text, "lark"):
            check(schema, "lark: %json")
        return text

    @staticmethod
    def rules(text: str) -> str:
        library = require("llguidance", extra="structured")
        rules: str = library.LLMatcher.grammar_from_lark(text)
        return rules


def _from_gbnf(text: str) -> str:
    require("llguidance", extra="structured")
    try:
        lark: str = importlib.import_module("llguidance.gbnf_to_lark").any_to_lark(text)
    except Exception as error:  # the converter raises whatever it stumbles over
        raise UsageError(f"lark: this looks like GBNF, but is not readable as such: {str(error)[:200]}") from None
    return lark
