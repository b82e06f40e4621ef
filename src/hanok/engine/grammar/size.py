"""How large a grammar becomes when its repetitions are written out: what the library takes long over is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from hanok.core.errors import UsageError

LARGEST = 20_000  # places in an expanded expression: about 0.1 s, and it grows with the square
DEEPEST = 200  # groups in groups

REGEX = re.compile(
    # What is never closed reaches to the end: looked for again at each of 50,000 brackets, it would take minutes.
    r"(?P<one>\\[pPx]\{[^}]*(?:\}|\Z)|\\.|\[\^?\]?(?:\\.|[^\]\\])*+(?:\]|\\?\Z))|(?P<times>\{(\d+)(,(\d*))?\})|(?P<open>\()|(?P<close>\))",
    re.DOTALL,
)
LARK = re.compile(
    r'(?P<text>"(?:\\.|[^"\\\n])*"i?)|(?P<regex>/(?:\\.|[^/\\\n])+/[a-z]*)|(?P<skip>//[^\n]*|\#[^\n]*)'
    r"|(?P<times>(?:\{\s*|~\s*)(\d+)(?:\s*(,|\.\.)\s*(\d*))?\s*\}?)|(?P<open>[(\[])|(?P<close>[)\]])|(?P<name>[A-Za-z_]\w*)"
)
RULE = re.compile(r"^[ \t]*[?!]?([A-Za-z_]\w*)(?:\.\d+)?(?:\[[^\]\n]*\])?[ \t]*:(?!:)", re.MULTILINE)
JSON = re.compile(r"%json\s*(?=[{\[])")

Weigh = Callable[[re.Match[str]], int]


def check_regex(pattern: str, what: str = "regex") -> str:
    """Return a regular expression, or refuse one whose repetitions multiply to too much."""
    _bounded(_expanded(pattern, REGEX, lambda _: 1, what), what)
    return pattern


def check_rules(text: str, what: str = "grammar") -> Iterator[object]:
    """Refuse rules whose repetitions multiply to too much; yield the JSON schemas that are written inside them."""
    plain = []
    at = 0
    while (found := JSON.search(text, at)) is not None:
        try:
            schema, end = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError):
            raise UsageError(f"{what}: what follows %json at character {found.start()} is no JSON") from None
        yield schema
        plain.append(text[at : found.start()] + '""')
        at = end
    _check_names("".join([*plain, text[at:]]), what)


def _check_names(text: str, what: str) -> None:
    starts = list(RULE.finditer(text))
    if not starts:
        raise UsageError(f"{what}: there is no rule in it (start: ...)")
    ends = [*(match.start() for match in starts[1:]), len(text)]
    bodies = {match[1]: text[match.end() : end] for match, end in zip(starts, ends, strict=True)}
    sizes: dict[str, int] = {}

    def weigh(match: re.Match[str]) -> int:
        if match["regex"]:
            return _bounded(_expanded(match["regex"], REGEX, lambda _: 1, what), what)
        if match["name"]:
            return sizes.get(match["name"], 1)  # a rule may come back to itself, and is counted once then
        return len(match[0])

    # Each name's size from those before it, as often as names can build on one another.
    for _ in range(min(len(bodies), 64)):
        before = dict(sizes)
        for name, body in bodies.items():
            sizes[name] = _expanded(body, LARK, weigh, what)
            # Only what is in capitals becomes an expression; rules are parsed, within limits of their own.
            _bounded(sizes[name] if name.isupper() else 0, f"{what}: {name}")
            sizes[name] = sizes[name] if name.isupper() else 1
        if sizes == before:
            return


def _expanded(text: str, tokens: re.Pattern[str], weigh: Weigh, what: str) -> int:
    """Return how many places a text has once every `{n}` is written out."""
    groups, last, at = [0], 0, 0
    for match in tokens.finditer(text):
        if match.start() > at:  # plain characters
            groups[-1] += match.start() - at
            last = 1
        at = match.end()
        if match["open"]:
            groups.append(0)
            if len(groups) > DEEPEST:
                raise UsageError(f"{what} has more than {DEEPEST} groups in one another")
        elif match["close"]:
            last = groups.pop() if len(groups) > 1 else 0
            groups[-1] += last
        elif match["times"]:
            times = [int(number) for number in re.findall(r"\d{1,9}", match["times"])]
            groups[-1] += last * (max(1, *times) - 1)
            last *= max(1, *times)
        else:
            last = weigh(match)
            groups[-1] += last
    return sum(groups) + len(text) - at


def _bounded(size: int, what: str) -> int:
    if size > LARGEST:
        raise UsageError(
            f"{what} has {size} places once its repetitions are written out; at most {LARGEST} are compiled"
        )
    return size
