"""Pre-training by every objective over text: it learns, writes what loads again, and says what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.model.weights import load_model, read_token_ids
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.objective.clm import NextToken
from hanok.train.stages import PretrainConfig, pretrain

SMALL = {"steps": 24, "batch": 4, "length": 24, "validation_tokens": 96, "optimizer": {"kind": "adamw", "lr": 0.02}}
WAYS: dict[str, dict[str, Any]] = {
    "mlm": {"preset": "bert", "objective": {"kind": "mlm", "unit": "word", "rate": 0.3}},
    "span_corruption": {"preset": "transformer", "objective": {"kind": "span_corruption", "sentinels": 8}},
    "prefix_lm": {"objective": "prefix_lm"},
    "clm": {"objective": {"kind": "clm", "label_smoothing": 0.1, "z_loss": 1e-3, "logits": "pieces"}},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objectives")
    texts = ["one two three four five six seven eight nine ten " * 2] * 30
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    tokenizer.save(path)
    for split, part in (("train", texts[:25]), ("valid", texts[25:])):
        write_shards(path / split, map(tokenizer.encode_document, part), vocab_size=tokenizer.vocab_size, num_bytes=99)
    return path


@pytest.mark.parametrize("name", WAYS)
def test_it_learns_and_loads(name: str, home: Path, tmp_path: Path) -> None:
    way = {"dials": {"dim": 16, "depth": 1, "heads": 2}, **SMALL, **WAYS[name]}
    figures = pretrain(PretrainConfig.parse(way), {"tokens": home}, tmp_path, Log(quiet=True))
    assert figures["val/loss"] < 4.5  # log 300 = 5.7
    assert ("val/bpb" in figures) == (name == "clm")
    model, tokenizer = load_model(tmp_path), Tokenizer.load(tmp_path)
    assert model.config.vocab == tokenizer.vocab_size
    if name == "mlm":
        assert tokenizer.token(tokenizer.vocab_size - 1) == tokenizer.config["mask_token"] == "<|mask|>"
    if name == "span_corruption":
        assert tokenizer.token_id("<extra_id_7>") == tokenizer.vocab_size - 1
        assert read_token_ids(tmp_path).start == tokenizer.pad_id
        source = torch.tensor([tokenizer.encode("one two")])
        assert model(torch.tensor([[tokenizer.pad_id]]), source=source).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "dpo"}, "needs more than text"),
        ({"objective": {"kind": "mlm", "mask": 0.8, "random": 0.3}}, "together at most 1"),
        ({"objective": "mml"}, "did you mean 'mlm'"),
        ({"objective": {"kind": "clm", "z_los": 1.0}}, "z_los"),
    ],
)
def test_wrong_settings_are_said_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PretrainConfig.parse({**SMALL, **change})


def test_a_model_that_does_not_fit_is_refused(home: Path, tmp_path: Path) -> None:
    for way in ({"objective": "mlm"}, {"preset": "bert", "dials": {"dim": 16, "depth": 1, "heads": 2}}):
        with pytest.raises(UsageError, match=r"see: all"):
            pretrain(PretrainConfig.parse({**SMALL, **way}), {"tokens": home}, tmp_path, Log(quiet=True))
    assert NextToken.Config() == PretrainConfig.parse(SMALL).objective
