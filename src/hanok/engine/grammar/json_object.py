"""Any JSON object."""

from __future__ import annotations

from typing import Any, ClassVar

from hanok.core.errors import UsageError
from hanok.engine.grammar import GRAMMARS
from hanok.engine.grammar.json_schema import JsonSchema


@GRAMMARS.register("json_object")
class JsonObject:
    """Any JSON object, whatever it holds; the value is `True`."""

    limit: ClassVar[int] = 64

    @staticmethod
    def text(value: Any) -> str:
        if value is not True:
            raise UsageError(f"json_object must be true, not {value!r:.40}")
        return '{"type":"object"}'

    @staticmethod
    def rules(text: str) -> str:
        return JsonSchema.rules(text)
