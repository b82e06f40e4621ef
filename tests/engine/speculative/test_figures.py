"""What is said about guesses: the engine's counts, /metrics, and the words of `--speculate`."""

from __future__ import annotations

from typing import Any

import pytest

from hanok.cli.common import speculation
from hanok.core.errors import UsageError
from hanok.engine.config import EngineConfig
from hanok.engine.engine import Engine
from hanok.engine.request import Request
from hanok.serve.metrics import Metrics, render


def test_metrics_count_guesses(target: Any, drafts: dict[str, str]) -> None:
    engine = Engine(target("gqa"), speculation={"kind": "draft", "model": drafts["same"], "tokens": 3})
    engine.generate([Request([1, 2, 3], 9, temperature=0.0, ignore_eos=True)])
    stats = engine.stats()
    # One token behind the prompt, then twice three guesses and a token of the model's own.
    assert (stats.steps, stats.drafts, stats.drafted_tokens, stats.accepted_tokens) == (3, 2, 6, 6)
    text = render([Metrics("tiny", engine.stats, compat="vllm")]).decode()
    for prefix in ("hanok", "vllm"):
        assert f'{prefix}:spec_decode_num_drafts_total{{model_name="tiny"}} 2.0' in text
        assert f'{prefix}:spec_decode_num_draft_tokens_total{{model_name="tiny"}} 6.0' in text
        assert f'{prefix}:spec_decode_num_accepted_tokens_total{{model_name="tiny"}} 6.0' in text


@pytest.mark.parametrize(
    ("word", "spec"),
    [
        (None, None),
        ("ngram", {"kind": "ngram"}),
        ("ngram,tokens=3,longest=5", {"kind": "ngram", "tokens": 3, "longest": 5}),
        (
            "draft=runs/small,tokens=4,drawn=false",
            {"kind": "draft", "model": "runs/small", "tokens": 4, "drawn": False},
        ),
        ("early_exit=2", {"kind": "early_exit", "layers": 2}),
        ("mtp", {"kind": "mtp"}),
    ],
)
def test_words_of_the_command_line(word: str | None, spec: dict[str, Any] | None) -> None:
    assert speculation(word) == spec
    config = EngineConfig.parse({"speculation": spec})
    assert config.speculation is None if spec is None else config.speculation.kind == spec["kind"]
    assert EngineConfig.parse(config.to_dict()) == config


@pytest.mark.parametrize("word", ["ngram=3", "ngram,tokens", "mtp=2"])
def test_a_word_that_says_nothing(word: str) -> None:
    with pytest.raises(UsageError, match="--speculate"):
        speculation(word)
