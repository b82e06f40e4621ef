"""Uncertainty: the formulas, what is scored, what is chosen."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from hanok.cli import execute
from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.data.read import read_records
from hanok.text.data.score.stored import read_scores
from hanok.text.data.shard import Shards, write_shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.bundle import Bundle
from hanok.train.pool import pool_scores
from hanok.train.select import choose, document_scores, prompt_scores
from hanok.train.uncertainty import UNCERTAINTIES

VOCAB = 40


@pytest.fixture
def model() -> Model:
    torch.set_num_threads(1)
    return Model(ModelConfig.preset("llama-tiny", vocab=VOCAB, dim=16, depth=2, context=64), seed=0)


def test_measures_are_their_formulas() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    targets = torch.tensor([1, 0, 2])
    wanted = {
        "entropy": [-(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)), 0.0, math.log(3)],
        "margin": [0.5, 0.0, 1.0],
        "confidence": [0.3, 0.0, 2 / 3],
        "loss": [-math.log(0.2), 0.0, math.log(3)],
    }
    assert set(wanted) == set(UNCERTAINTIES)
    for word, values in wanted.items():
        assert UNCERTAINTIES[word]()(probs.log(), targets).tolist() == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("by", ["loss", "entropy"])
def test_documents_score_as_they_would_alone(by: str, model: Model, tmp_path: Path) -> None:
    rng = random.Random(0)
    documents = [[rng.randrange(VOCAB) for _ in range(size)] for size in (5, 1, 0, 30, 17, 16, 2, 50)]
    write_shards(tmp_path, documents, vocab_size=VOCAB, shard_tokens=30)
    scores = document_scores(model, Shards(tmp_path), by, length=16, batch=2)
    measure = UNCERTAINTIES[by]()
    for document, score in zip(documents, scores, strict=True):
        values: list[float] = []
        for start in range(0, max(len(document) - 1, 0), 16):  # parts of 16 targets stand alone
            ids = torch.tensor([document[start : start + 17]])
            with torch.no_grad():
                values += measure(model(ids[:, :-1])[0], ids[0, 1:]).tolist()
        assert score == pytest.approx(np.mean(values) if values else 0.0, abs=1e-5)


def test_prompts_score_by_the_models_own_answer(model: Model) -> None:
    rng = random.Random(1)
    prompts = [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 9))] for _ in range(7)]
    measure = UNCERTAINTIES["margin"]()

    def alone(prompt: list[int], tokens: int, stops: list[int]) -> float:
        values, ids = [], list(prompt)
        for _ in range(tokens):
            with torch.no_grad():
                logits = model(torch.tensor([ids]))[:, -1]
            answer = int(logits.argmax())
            values.append(float(measure(logits, torch.tensor([answer]))))
            ids.append(answer)
            if answer in stops:
                break
        return float(np.mean(values))

    for tokens in (1, 4):
        stops = list(range(0, VOCAB, 3))
        found = prompt_scores(model, prompts, "margin", tokens=tokens, stops=stops, batch=3)
        assert found == pytest.approx([alone(prompt, tokens, stops) for prompt in prompts], abs=1e-5)
    with pytest.raises(UsageError, match="use entropy or margin"):
        prompt_scores(model, prompts, "loss")
    with pytest.raises(UsageError, match="prompts need 1 to"):
        prompt_scores(model, [[1] * 65], "entropy")


def test_the_highest_are_chosen_and_ties_are_fair() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.7, 0.2])
    assert choose(scores, 3) == [1, 3, 2]
    mixed = choose(scores, 4, explore=0.5, seed=1)
    assert mixed[:2] == [1, 3] and len(set(mixed)) == 4
    counts = np.bincount([place for seed in range(400) for place in choose(np.ones(5), 2, seed=seed)], minlength=5)
    assert counts.min() > 110 and counts.max() < 210  # 160 each, give or take five standard deviations
    for number, explore in ((0, 0.0), (6, 0.0), (2, 1.5)):
        with pytest.raises(UsageError, match="cannot choose"):
            choose(scores, number, explore=explore)
    with pytest.raises(UsageError, match="item 1 is not finite"):
        choose(np.array([0.0, math.nan]), 1)


def test_a_pool_of_every_kind_of_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    tokenizer = Tokenizer.train(["what is red apples are red and so on " * 20], vocab_size=300)
    config = ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=16, depth=1, context=64)
    bundle = Bundle(Model(config, seed=0), tokenizer, CHATS["chatml"]())
    bundle.save(tmp_path / "model")
    rows = [
        {"text": "apples are red"},
        {"prompt": "what is red"},
        {"messages": [{"role": "user", "content": "what"}, {"role": "assistant", "content": "red"}], "note": "한"},
        {"prompt": "is it", "completion": "so"},
    ]
    file = tmp_path / "pool.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = pool_scores(bundle, list(read_records([file])), "entropy")
    assert (scores > 0).all() and (scores < math.log(tokenizer.vocab_size)).all()
    out = tmp_path / "chosen.jsonl"
    command = ["data", "select", str(tmp_path / "model"), "-d", str(file), "-n", "2", "-o", str(out), "--device", "cpu"]
    assert execute([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    best = sorted(range(4), key=lambda i: -scores[i])[:2]
    chosen = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k != "entropy"} for row in chosen] == [rows[i] for i in best]
    assert said["mean_of_chosen"] >= said["mean_of_all"]
    assert execute(command) == 2 and "exists already" in capsys.readouterr().err
    documents = [tokenizer.encode_document(text) for text in ("apples are red", "so on and so on", "what")]
    write_shards(tmp_path / "data" / "train", documents, vocab_size=tokenizer.vocab_size)
    words = ["data", "score", str(tmp_path / "model"), "-d", str(tmp_path / "data"), "-o", str(tmp_path / "scores")]
    assert execute([*words, "--by", "entropy", "--device", "cpu"]) == 0
    shards = Shards(tmp_path / "data" / "train")
    expected = document_scores(bundle.model, shards, "entropy", length=64)
    assert read_scores(tmp_path / "scores", shards) == pytest.approx(expected, abs=1e-5)
