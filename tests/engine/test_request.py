"""A request says what is wrong with it before anything is computed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hanok.core.errors import UsageError
from hanok.engine.request import Request

NAN, INF = math.nan, math.inf
BAD: dict[str, list[Any]] = {
    "prompt": [
        "",
        [],
        (),
        [-1],
        [True],
        [1.0],
        [1, None],
        torch.zeros(0),
        torch.tensor([[1, 2], [3, 4]]),
        7,
        None,
        [2**63],
    ],
    "max_tokens": [0, -1, True, 1.5, "3", 2**63, NAN],
    "temperature": [-0.1, NAN, INF, True, "1", None, 10**400],
    "top_k": [-1, 1.0, True, None, 2**63],
    "top_p": [0.0, -0.1, 1.1, NAN, True, None],
    "min_p": [-0.1, 1.1, NAN, False],
    "seed": [1.0, "1", True, 2**63, -(2**63) - 1],
    "stop": [[""], "", [1], 3, None, ["a", ""]],
    "stop_token_ids": [[-1], 3, ["a"], [True], "12"],
    "ignore_eos": [1, None, "yes"],
    "logprobs": [-1, True, 1.0, "5"],
    "min_tokens": [-1, 17, True, None],
    "typical_p": [0.0, -0.1, 1.1, NAN, True, None],
    "repetition_penalty": [0.0, -1, NAN, INF, "1", 101.0],
    "presence_penalty": [-2.1, 2.1, NAN, None, True],
    "frequency_penalty": [-2.1, 2.1, INF, "0"],
    "logit_bias": [None, [1], {-1: 1.0}, {1: 101}, {1: NAN}, {"1": 1}, {1: None}, dict.fromkeys(range(1025), 1.0)],
    "bad_words": ["word", None, [""], [[]], [3], [[-1]], [["a"]], ["a"] * 1025],
    "prompt_logprobs": [-1, 21, True, 1.0],
    "grammar": [{}, {"regex": "a", "choice": ["a"]}, "a", {"regx": "a"}, {1: "a"}, {"regex": ""}, {"choice": []}],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values], ids=repr)
def test_bad_values_are_named(name: str, value: Any) -> None:
    fields = {"prompt": [1], name: value}
    with pytest.raises(UsageError, match="grammar|regex|choice" if name == "grammar" else name) as caught:
        if name == "stop" and value == "":
            fields["stop"] = ("",)
        Request(**fields)
    assert len(str(caught.value)) < 250


def test_good_edges() -> None:
    assert Request(torch.tensor([1, 2])).prompt == [1, 2]
    assert Request(torch.tensor([[1, 2]])).prompt == [1, 2]
    assert Request(np.array([3])).prompt == [3]  # type: ignore[arg-type]
    assert Request([np.int64(4)]).prompt == [4]  # type: ignore[list-item]
    assert Request([1], stop="x").stop == ("x",)
    assert Request([1], None).max_tokens is None
    assert Request([1], temperature=0).temperature == 0.0
    assert Request([1], top_p=1, min_p=1, seed=-(2**63)).top_p == 1.0
    messages = [{"role": "user", "content": "x"}]
    assert Request(messages).prompt == messages
    with pytest.raises(UsageError, match=r"prompt\[1\]"):
        Request([messages[0], "x"])  # type: ignore[list-item]
