"""`hanok compare positions` on tiny data: what it says is what was measured."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.cli import execute as run
from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.recipes.positions import PositionsConfig, figures, read, rescaled, verdicts
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer

TINY = ["length=8", "upto=32", "dim=16", "depth=1", "heads=2", "batch=4", "evaluation_tokens=400"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens")
    texts = [f"sheep {i} jumps over fence {i * 7 % 13}, and over {i % 5} more. " * 3 for i in range(80)]
    tokenizer = Tokenizer.train(texts, vocab_size=280)
    tokenizer.save(path)
    for split, part in (("train", texts[:60]), ("valid", texts[60:])):
        documents = [tokenizer.encode_document(text) for text in part]
        write_shards(path / split, documents, vocab_size=280, num_bytes=sum(map(len, part)))
    return path


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    results = json.loads((path / "results.json").read_text())
    return {row["scheme"] + row["change"]: row for row in results["rows"]}


def test_the_command_measures_what_it_says(tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compare", "positions", "--positions", "rope,alibi,learned", "--data", str(tokens), "steps=4", *TINY]
    assert run([*argv, "-o", str(tmp_path), "--plot", "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    out = Path(printed["path"])
    rows = rows_of(out)
    assert list(rows) == ["rope", "ropelinear", "ropentk", "ropeyarn", "ropewindow", "alibi", "learned"]
    assert printed["alibi"] == rows["alibi"]["bits_per_byte"][-1] and printed["steps"] == 4
    table = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(table) == 7 * 3 and [row["times_trained"] for row in table[:3]] == ["1", "2", "4"]
    assert float(table[2]["bits_per_byte"]) == rows["rope"]["bits_per_byte"][2]
    for name, row in rows.items():
        assert all(math.isfinite(value) and 0 < value < 20 for value in row["bits_per_byte"]), name
        if name in ("rope", "alibi", "learned", "ropewindow"):  # within the trained rows both readings are the same
            assert row["gain"][0] == pytest.approx(0.0, abs=1e-6)
    assert rows["ropelinear"]["bits_per_byte"][0] != rows["rope"]["bits_per_byte"][0]
    page = out.with_name(out.name + ".html").read_text()
    assert "Bits per byte beyond the training length" in page and "rope + yarn" in page and "in pieces of 8" in page
    before = (out / "results.json").read_bytes()
    assert run([*argv, "-o", str(tmp_path), "--json", "-q"]) == 0, "a second call finds it finished"
    assert (out / "results.json").read_bytes() == before


def test_minutes_become_the_same_steps_for_all(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compare", "positions", "--positions", "none,t5", "--minutes", "0.01", "--data", str(tokens), *TINY]
    assert run([*argv, "-o", str(tmp_path), "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    plan = json.loads((Path(printed["path"]) / "plan.json").read_text())
    assert printed["steps"] == plan["steps"] >= 12


def test_figures_are_ratios_of_sums_with_their_spread() -> None:
    bits = torch.tensor([[1.0, 3.0, 8.0, 8.0], [2.0, 2.0, 4.0, 6.0], [3.0, 5.0, 2.0, 2.0]]).double()
    sizes = torch.tensor([[1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 1.0, 1.0], [2.0, 2.0, 1.0, 3.0]]).double()
    found = figures(bits, bits + sizes, sizes, [(0, 2), (2, 4)])
    assert found["bits_per_byte"] == pytest.approx([16 / 9, 30 / 10])
    assert found["gain"] == pytest.approx([1.0, 1.0]) and found["gain_se"] == pytest.approx([0.0, 0.0])
    rest = bits[:, :2].sum(1) - 16 / 9 * sizes[:, :2].sum(1)
    assert found["se"][0] == pytest.approx(math.sqrt(float(rest.square().sum()) * 1.5) / 9)


@torch.no_grad()
def test_rescaled_models_keep_their_weights_and_change_their_reach() -> None:
    config = PositionsConfig.parse({"length": 8, "upto": 32, "dim": 16, "depth": 2, "heads": 2})
    model, held = Model(config.architecture("rope", 50)), torch.randint(0, 50, (3, 33))
    plain = read(model, held, 32)
    torch.testing.assert_close(read(model, held, 8)[:, :8], plain[:, :8], rtol=1e-5, atol=1e-5)
    for change in config.scalings:
        bits = read(rescaled(model, change, config), held, 32)
        assert not torch.allclose(bits[:, 20:], plain[:, 20:])
        assert torch.allclose(bits[:, :8], plain[:, :8]) == (change == "window")


@pytest.mark.parametrize(
    ("gain", "error", "word"),
    [(0.3, 0.1, "the longer past helps (-0.300"), (-0.3, 0.1, "it hurts (+0.300"), (0.1, 0.1, "no difference")],
)
def test_verdicts_say_what_the_numbers_say(gain: float, error: float, word: str) -> None:
    row = {"scheme": "x", "change": "", "bits_per_byte": [2.0, 3.0], "pieces": [2.0, 3.0 + gain]}
    row |= {"gain": [0.0, gain], "gain_se": [0.0, error]}
    assert word in verdicts([row], PositionsConfig())[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"upto": 100}, "2, 4, 8, ... times the length 64"),
        ({"positions": ["roep"]}, "did you mean 'rope'"),
        ({"positions": []}, "at least one"),
        ({"positions": ["rope", "rope"]}, "each once"),
        ({"scalings": ["magic"]}, "'linear', 'ntk', 'yarn' or 'window'"),
    ],
)
def test_wrong_settings_are_explained(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PositionsConfig.parse(change)


def test_too_little_text_is_refused(tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compare", "positions", "--upto", "65536", "--data", str(tokens), "steps=1", "-o", str(tmp_path), "-q"]
    assert run(argv) == 2
    assert "131073 or more" in capsys.readouterr().err
