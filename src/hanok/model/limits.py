"""How large a model that a file describes may be: far above any published, so that nonsense is refused unbuilt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hanok.core.errors import UsageError
from hanok.core.json_file import clip
from hanok.model.config import ModelConfig
from hanok.model.model import Model

DEEPEST = 1000  # layers: so many are built in about a second
LARGEST = 1 << 20  # widths, heads, ranks
MOST_WORDS = 1 << 24
MOST_EXPERTS = 1 << 12
LONGEST = 1 << 40  # tokens
COUNTS_LAYERS = re.compile(r"(n|num|encoder|decoder)_(\w+_)?layers?")  # every family's keys for it
LIMITS = {"depth": DEEPEST, "vocab": MOST_WORDS, "experts": MOST_EXPERTS}
LIMITS |= dict.fromkeys(("context", "window", "length", "original_context"), LONGEST)


def check_layers(theirs: Mapping[str, Any], where: str) -> None:
    """Refuse a config.json with an impossible number of layers before any list of so many is made."""
    for key, value in theirs.items():
        if COUNTS_LAYERS.fullmatch(key) and value is not None and not (type(value) is int and 0 <= value <= DEEPEST):
            raise UsageError(f"{where}: {key} = {clip(value)} must be a number of layers, from 1 to {DEEPEST}")


def check_sizes(config: ModelConfig, theirs: Mapping[str, Any], where: str) -> None:
    """Refuse a config with a number beyond the limits, naming it, and the key of theirs that holds it."""
    for path, value in _numbers(config.to_dict()):
        limit = LIMITS.get(path.rpartition(".")[2], LARGEST)
        if value > limit:
            told = ", ".join(key for key, given in theirs.items() if given == value)
            raise UsageError(f"{where}: {told or path} = {value} is above the limit of {limit} for {path}")


def layers(config: ModelConfig) -> int:
    """Return how many layers a model has, of every stack."""
    return sum(value for path, value in _numbers(config.to_dict()) if path.rpartition(".")[2] == "depth")


def build_empty(config: ModelConfig, where: str) -> Model:
    """Return the model without memory for its weights; sizes whose product no memory could hold are refused."""
    try:
        return Model(config, device="meta")
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AssertionError) as error:
        reason = "its sizes multiply to more numbers than there can be" if _overflows(error) else f"{error}"
        raise UsageError(f"{where}: this model cannot be built: {reason}") from None


def _overflows(error: Exception) -> bool:
    return isinstance(error, RuntimeError | OverflowError) and "overflow" in str(error).lower()


def _numbers(data: Any, at: str = "") -> Iterator[tuple[str, int]]:
    """Yield the path and value of every whole number in nested data."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _numbers(value, f"{at}.{key}" if at else str(key))
    elif isinstance(data, int) and not isinstance(data, bool):
        yield at, data
