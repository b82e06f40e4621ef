"""Models side by side, and drawn: every number is counted, every wiring is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanok.cli import main
from hanok.model.atlas import entries, published
from hanok.model.compare import cache_curves, side_by_side
from hanok.model.diagram import draw


def test_the_survey_table() -> None:
    names = ("llama-2-7b", "llama-3-8b", "falcon-7b", "mistral-7b-v0.1", "deepseek-v2", "mamba-130m")
    rows = {row["model"]: row for row in side_by_side({name: published(name) for name in names}, [2048, 32_768])}
    words = {name: row["mixers"] for name, row in rows.items()}
    assert words == {
        "llama-2-7b": "mha 32",
        "llama-3-8b": "gqa 32/8",
        "falcon-7b": "mqa 71/1",
        "mistral-7b-v0.1": "gqa 32/8 w4096",
        "deepseek-v2": "mla",
        "mamba-130m": "mamba",
    }
    assert rows["llama-2-7b"]["cache_kib_per_token"] == 512 and rows["mistral-7b-v0.1"]["cache_gib_at_32768"] == 0.5
    assert rows["mamba-130m"]["cache_gib_at_2048"] == rows["mamba-130m"]["cache_gib_at_32768"] > 0


def test_a_full_window_is_flat() -> None:
    lengths, curves = cache_curves({"m": published("mistral-7b-v0.1")}, 65_536)
    sizes = dict(zip(lengths, curves["m"], strict=True))
    assert sizes[4096] == sizes[65_536] == 2 * sizes[2048]


@pytest.mark.parametrize(
    "name", ["gpt-1", "gpt-2-small", "pythia-70m", "gemma-2-2b", "olmo-2-7b", "t5-small", "jamba-v0.1"]
)
def test_diagrams_show_the_wiring(name: str) -> None:
    text = draw(published(name))
    assert max(map(len, text.splitlines())) < 140 and text.splitlines()[-1] == "logits"
    assert text.count("norm") >= 2, "the norms are drawn"


def test_every_published_model_is_drawn() -> None:
    for name in entries():
        assert "▼" in draw(published(name))


def test_compare_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        return int(stopped.value.code or 0), "".join(capsys.readouterr())

    code, text = run("compare", "gpt-2-small", "mamba-130m", "--lengths", "1000", "--json")
    rows = json.loads(text)
    assert code == 0 and [row["parameters"] for row in rows] == [124_439_808, 129_135_360]
    code, text = run("compare", "gpt-2-small", "mamba-130m", "--plot", "-o", str(tmp_path))
    page = (tmp_path / "compare.html").read_text()
    assert code == 0 and "mamba-130m" in page and 'src="http' not in page
    assert run("compare", "gpt-2-small")[0] == 2
    code, text = run("compare", "gpt-2-smal", "gpt-2-large")
    assert code == 2 and "gpt-2-small" in text
    assert run("compare", "gpt-1", "gpt-2-small", "--dtype", "bf17")[0] == 2
