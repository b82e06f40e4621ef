"""Every regular expression that is shipped takes linear time, on 50,000 characters made to provoke it."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hanok

SOURCE = Path(hanok.__file__).parent
LENGTH = 50_000
SECONDS = 2.0  # of processor time; backtracking over 50,000 characters takes minutes, one pass a few milliseconds
CALLS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
FLAGS = {"I": re.I, "IGNORECASE": re.I, "M": re.M, "MULTILINE": re.M, "S": re.S, "DOTALL": re.S, "X": re.X}


def shipped() -> Iterator[tuple[str, str, int, str]]:
    """Yield (place, pattern, flags, how) of every pattern that is written down in the package.

    `how` is what it is used for: "fullmatch" or "match" looks at one place of a text, "search" at all of them.
    """
    texts = {file: file.read_text() for file in sorted(SOURCE.rglob("*.py"))}
    uses = "\n".join(re.findall(r"\w+\.(?:" + "|".join(sorted(CALLS)) + r")\(", "\n".join(texts.values())))
    for file, text in texts.items():
        if "import re\n" not in text:
            continue
        tree = ast.parse(text)
        names = {
            id(node.value): node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in CALLS and isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
                pattern, how = node.args[0], {node.func.attr}
                if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
                    if node.func.attr == "compile":
                        name = names.get(id(node), "")
                        how = set(re.findall(rf"\b{name}\.(\w+)\(", uses))
                    place = f"{file.relative_to(SOURCE)}:{node.lineno}"
                    yield (
                        place,
                        pattern.value,
                        _flags(node),
                        how.pop() if how in ({"fullmatch"}, {"match"}) else "search",
                    )


def _flags(node: ast.Call) -> int:
    names = [
        part.attr
        for argument in (*node.args[1:], *(k.value for k in node.keywords))
        for part in ast.walk(argument)
        if isinstance(part, ast.Attribute)
    ]
    flags = 0
    for name in names:
        flags |= FLAGS.get(name, 0)
    return flags


def attacks(pattern: str) -> Iterator[str]:
    """Yield texts of what a pattern looks for, again and again, that end with what it does not."""
    literal = re.findall(r"[A-Za-z0-9_]{2,}|[^\\\w\s]", pattern)
    units = {"a", "0", " ", "\n", "\t", "-", ".", "_", "A", "가", "a ", "a.", "\n ", " \n", "a\n", "1,", *literal}
    units |= {first + second for first in literal[:2] for second in literal[:2]}
    for unit in sorted(units):
        yield (unit * (LENGTH // len(unit) + 1))[:LENGTH] + "\x00!"
    for opened in sorted(set(literal[:4])):
        yield opened + "a" * LENGTH + "\x00!"
        yield opened + " " * LENGTH + "\x00!"


def slowest(compiled: re.Pattern[str], pattern: str, how: str) -> tuple[float, str]:
    """Return the most processor time that an attack took, and how it begins; gives up at the first that is too long."""
    worst = (0.0, "")
    for text in attacks(pattern):
        start = time.process_time()
        if how == "search":
            compiled.sub("", text)
        else:
            getattr(compiled, how)(text)
        worst = max(worst, (time.process_time() - start, text[:20]))
        if worst[0] > SECONDS:
            break
    return worst


PATTERNS = list(shipped())


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 20


@pytest.mark.slow
@pytest.mark.parametrize(("place", "pattern", "flags", "how"), PATTERNS, ids=[found[0] for found in PATTERNS])
def test_no_pattern_backtracks(place: str, pattern: str, flags: int, how: str) -> None:
    worst, text = slowest(re.compile(pattern, flags), pattern, how)
    assert worst < SECONDS, f"{place}: {pattern!r} took {worst:.1f} s on {text!r}..."


@pytest.mark.slow
def test_control_a_pattern_that_backtracks_is_caught() -> None:
    for bad, unit in ((r"\s+$", " "), (r"x*y", "x")):
        times = []
        for size in (10_000, 30_000):
            start = time.process_time()
            re.compile(bad).search(unit * size + "!")
            times.append(time.process_time() - start)
        assert times[1] > 5 * times[0], "three times the text takes nine times the time"
