"""The same JSON value, however it is written."""

from __future__ import annotations

import json

from hanok.eval.score import SCORES


@SCORES.register("json")
def json_equal(completion: str, answer: str) -> float:
    """1 if both are JSON with the same value; order of keys and spacing do not matter."""
    try:
        return float(_canonical(completion) == _canonical(answer))
    except ValueError:
        return 0.0


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)
