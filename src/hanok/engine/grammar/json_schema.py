"""JSON that a schema allows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from hanok.core.errors import UsageError, require
from hanok.engine.grammar import GRAMMARS, check_size
from hanok.engine.grammar.size import check_regex

DEPTH, NODES = 32, 5_000
# Bounded, as models that may write space write it for ever: one blank, or a new line and its indentation.
SPACE = r"( |\n[ ]{0,16}|\n\t{0,4})?"
OPTIONS = {"lenient": False, "coerce_one_of": False, "whitespace_pattern": SPACE}  # over what the schema asks for


@GRAMMARS.register("json_schema", paper="https://json-schema.org/draft/2020-12")
class JsonSchema:
    """JSON that a schema allows, with the properties in the schema's order; remote `$ref`s are refused."""

    limit: ClassVar[int] = 256 * 1024

    @staticmethod
    def text(value: Any) -> str:
        if isinstance(value, str):
            value = read(check_size(value, "json_schema", JsonSchema.limit))
        check(value)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def rules(text: str) -> str:
        library = require("llguidance", extra="structured")
        rules: str = library.LLMatcher.grammar_from_json_schema(text, overrides=OPTIONS)
        return rules


def read(text: str) -> Any:
    """Return what a schema's text says."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"json_schema is not readable JSON: {str(error)[:200]}") from None


def check(schema: Any, where: str = "json_schema") -> None:
    """Refuse a schema that is too deep, too large, refers to another document or holds an expensive pattern."""
    if not isinstance(schema, Mapping | bool):
        raise UsageError(f"{where} must be an object (or true), not {type(schema).__name__}")
    if schema is False:
        raise UsageError(f"{where} is false, which no text can satisfy")
    for nodes, (path, depth, value) in enumerate(_walk(schema)):
        if depth > DEPTH:
            raise UsageError(f"{where} is more than {DEPTH} levels deep at {path}")
        if nodes >= NODES:
            raise UsageError(f"{where} has more than {NODES} nodes")
        if isinstance(value, Mapping):
            _check_node(value, f"{where}{path}")


def _check_node(node: Mapping[Any, Any], where: str) -> None:
    if not all(isinstance(key, str) for key in node):
        raise UsageError(f"{where}: keys must be strings")
    target = node.get("$ref")
    if isinstance(target, str) and not target.startswith("#"):
        raise UsageError(f"{where}.$ref points to another document ({target[:60]!r}); only '#...' is followed")
    if isinstance(node.get("pattern"), str):
        check_regex(node["pattern"], f"{where}.pattern")
    for pattern in node.get("patternProperties") or () if isinstance(node.get("patternProperties"), Mapping) else ():
        check_regex(str(pattern), f"{where}.patternProperties")


def _walk(schema: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield (path, depth, value) of every value, without recursion: what comes from outside may be deep."""
    waiting = [("", 0, schema)]
    while waiting:
        path, depth, value = waiting.pop()
        yield path, depth, value
        if isinstance(value, Mapping):
            waiting += [(f"{path}.{str(key)[:40]}"[-200:], depth + 1, item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{path}[{at}]"[-200:], depth + 1, item) for at, item in enumerate(value)]
