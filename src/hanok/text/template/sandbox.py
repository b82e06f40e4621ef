"""What a foreign template may do: Jinja as transformers gives it, in a sandbox with bounds on what it may produce."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hanok.core.errors import UsageError

MAX_REPEAT = 4 * 1024 * 1024  # characters or items that one repetition may make
MAX_STEPS = 100_000  # numbers that all ranges of one template may count through
MAX_REASON = 500  # characters of an error's own words
ADDRESS = re.compile(r" at (0x[0-9a-f]{4,16})", re.IGNORECASE)  # how Python writes an object that has no text


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without access to Python's internals, to object addresses, or to results that explode."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse `*`, `**` and `%` where they would build something large."""
        if operator == "**" and (abs(right) > 64 or abs(left) > 2**32):
            raise SecurityError("a power this large is not allowed in a chat template")
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, (str, list, tuple)) and isinstance(times, int) and len(value) * times > MAX_REPEAT:
                    raise SecurityError("a repetition this long is not allowed in a chat template")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("formatting with % is not allowed in a chat template")
        return super().call_binop(context, operator, left, right)


class Generation(jinja2.ext.Extension):
    """The tag `{% generation %}` of transformers, which marks what an assistant has written and changes no text."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        """Return the body of the tag unchanged."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source: str) -> jinja2.Template:
    """Compile a chat template with the helpers that transformers gives it."""
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise UsageError(f"the chat template is not valid Jinja: {_reason(error)}") from None
    except (RecursionError, SyntaxError, ValueError):  # what Python's own compiler makes of deep nesting
        raise UsageError("the chat template is nested too deeply to be read") from None


def render_template(template: jinja2.Template, variables: Mapping[str, Any], *, most: int, known: str) -> str:
    """Return at most `most` characters; what the template refuses is a `UsageError` with its own words.

    `known` is all that the template was given: an object's address that does not stand there is not let out.
    """
    blocks, size = [], 0
    try:
        for block in template.generate(**variables, range=_Range()):
            size += len(block)
            if size > most:
                raise SecurityError(f"it produces more than {most} characters")
            blocks.append(block)
        text = "".join(blocks)
        if any(address not in known for address in ADDRESS.findall(text)):
            raise SecurityError("it writes the address of an object in memory")
        return text
    except SecurityError as error:
        raise UsageError(f"the chat template was stopped: {_reason(error)}") from None
    except jinja2.TemplateError as error:
        raise UsageError(f"the chat template refuses these messages: {_reason(error)}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever the template's own code does wrong
        words = f"{type(error).__name__}: {_reason(error)}"
        raise UsageError(f"the chat template fails on these messages: {words}") from None


class _Range:
    """`range` with one budget for a whole rendering, so that nested loops cannot count for ever."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def __call__(self, *args: int) -> range:
        numbers = range(*args)
        self._left -= len(numbers)
        if self._left < 0:
            raise SecurityError(f"its ranges count through more than {MAX_STEPS} numbers")
        return numbers


def _reason(error: Exception) -> str:
    """Return an error's words, short and without addresses: they go to whoever sent the messages."""
    return ADDRESS.sub("", str(error)[:MAX_REASON])


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
