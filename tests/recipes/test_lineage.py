"""The lineage race: probes that ask what they say, everybody on the same bytes, verdicts made of figures, a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.model.size import count
from hanok.nn.mixer.window_mlp import WindowMLP
from hanok.recipes.lineage.contestants import CONTESTANTS, choose
from hanok.recipes.lineage.figures import bits_gap, reach_of
from hanok.recipes.lineage.given import Given, halved, logits_of
from hanok.recipes.lineage.learn import WINDOW, network_bits
from hanok.recipes.lineage.page import write_page
from hanok.recipes.lineage.probe import figures, right_answers
from hanok.recipes.lineage.race import LineageConfig, Race
from hanok.recipes.lineage.speed import costs, source_numbers
from hanok.recipes.lineage.task import (
    ANSWER,
    COPY,
    DISTANCES,
    KEYS,
    PAIRS,
    REVERSE,
    VALUES,
    VOCAB,
    ProbeStream,
    places,
    questions,
    recall,
    transduce,
)
from hanok.recipes.lineage.verdicts import verdicts
from hanok.text.data.stream import window_batch

NETWORKS = [contestant for contestant in CONTESTANTS if contestant.preset]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("distance", [1, 2, 5, 8, 40])
def test_the_value_lies_as_far_back_as_is_said(distance: int, split: bool) -> None:
    for later in range(places(distance)):
        batch = recall(5, distance, later, torch.Generator().manual_seed(1), asked=PAIRS, split=split)
        shown = batch.columns["source"] if split else batch.tokens
        for row in range(5):
            answered = batch.weights[row].nonzero().flatten().tolist()
            assert len(answered) == PAIRS
            whole = torch.cat((shown[row], batch.tokens[row])) if split else batch.tokens[row]
            offset = shown.shape[1] if split else 0
            for number, at in enumerate(answered):
                key, value = int(batch.tokens[row, at]), int(batch.targets[row, at])
                assert key < KEYS <= value < KEYS + VALUES
                first = whole.tolist().index(key)
                assert whole[first + 1] == value, "what is asked was shown"
                if number == 0:
                    assert at + offset - (first + 1) == distance


def test_lists_are_said_again_and_backwards() -> None:
    for word, turn in ((COPY, 1), (REVERSE, -1)):
        batch = transduce(3, 5, word, torch.Generator().manual_seed(2))
        for tokens, targets, weights in zip(batch.tokens, batch.targets, batch.weights, strict=True):
            given = tokens[1:6].tolist()
            assert tokens[0] == word and tokens[6] == ANSWER
            assert targets[weights > 0].tolist() == given[::turn]
            assert torch.equal(targets[:-1], tokens[1:]), "each target is the next token"


def test_a_probe_stream_goes_on_where_it_was() -> None:
    stream = ProbeStream("recall", 4, 7, split=False)
    stream.next_batch()
    state, second = stream.state(), stream.next_batch()
    stream.restore(state)
    assert torch.equal(stream.next_batch().tokens, second.tokens)
    assert not torch.equal(ProbeStream("recall", 4, 8, split=False).next_batch().tokens, second.tokens)


def test_questions_cover_every_place_a_distance_allows() -> None:
    asked = {k: batches for _, k, batches in questions("recall", 64, 0, split=False)}
    assert tuple(asked) == DISTANCES and [len(asked[k]) for k in (1, 2, 4, 8)] == [1, 1, 2, PAIRS]


@pytest.mark.parametrize("contestant", NETWORKS, ids=lambda contestant: contestant.name)
def test_everybody_has_about_the_same_weights_and_learns(contestant: Any) -> None:
    size = count(contestant.language_config(1024, 512))
    body = size.params_active - size.params_embedding
    assert 0.7e6 < body < 1.0e6
    small = count(contestant.probe_config(48, 300))
    assert 7e4 < small.params_active - small.params_embedding < 1.4e5
    model = Model(contestant.probe_config(VOCAB["copy"], 60))
    loss, _ = Given()(model, ProbeStream("copy", 3, 0, contestant.reads == "source").next_batch())
    loss.backward()
    assert loss.item() == pytest.approx(math.log(VOCAB["copy"]), rel=1.2)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_encoders_and_decoders_are_measured_on_the_same_bytes() -> None:
    tokens = torch.randint(0, 50, (2, WINDOW + 1))
    whole = window_batch(tokens.numpy())
    cut = halved(whole)
    assert torch.equal(cut.targets, whole.targets[:, WINDOW // 2 :])
    assert torch.equal(torch.cat((cut.columns["source"], cut.tokens), 1), whole.tokens)
    model = Model(choose(["llama"])[0].probe_config(50, WINDOW))
    logs = torch.log_softmax(model(tokens[:, :-1]), -1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    expected = -logs[:, WINDOW // 2 :].sum(1).double() / math.log(2)
    torch.testing.assert_close(network_bits(model, tokens, "prefix"), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_right_throughout_is_what_greedy_writing_gives() -> None:
    """The control: a model that was never trained, so that most rows are wrong, written out token by token."""
    torch.manual_seed(0)
    model = Model(choose(["gpt"])[0].probe_config(VOCAB["copy"], 60))
    batch = transduce(200, 2, COPY, torch.Generator().manual_seed(3))
    right = right_answers(model, batch).all(1)
    written = batch.tokens[:, :4]
    for _ in range(2):
        written = torch.cat((written, model(written)[:, -1:].argmax(-1)), 1)
    assert torch.equal((written[:, 4:] == batch.targets[:, -2:]).all(1), right)
    assert 0 <= figures(right[:, None])["low"] <= figures(right[:, None])["right"]


def test_a_window_sees_just_its_tokens() -> None:
    from hanok.nn.context import Dense

    mixer = WindowMLP(WindowMLP.Config(tokens=3, hidden=7), 5, 0).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_()
    x = torch.randn(1, 6, 5, dtype=torch.float64, requires_grad=True)
    y = mixer(x, Dense(torch.zeros(1, 6, dtype=torch.int64)))
    padded = torch.cat((torch.zeros(1, 2, 5, dtype=torch.float64), x), 1)
    side = torch.stack([padded[0, i : i + 3].flatten() for i in range(6)])
    torch.testing.assert_close(y[0], torch.tanh(side @ mixer.input.weight.T + mixer.input.bias) @ mixer.out.weight.T)
    (grad,) = torch.autograd.grad(y[0, 5].sum(), x)
    assert grad[0, :3].abs().sum() == 0 and grad[0, 3:].abs().min() > 0


def test_what_a_decoder_keeps_of_its_source() -> None:
    transformer = Model(choose(["transformer"])[0].probe_config(48, 60))
    assert source_numbers(transformer) == (2 * 2 * 48, 0), "keys and values of two layers"
    assert source_numbers(Model(choose(["gpt"])[0].probe_config(48, 60))) == (0, 0)
    assert costs(Model(choose(["moe"])[0].language_config(1024, 512)))["parameters_body_active"] < 1e6


def row(name: str, bits: float, right: list[float], **more: Any) -> dict[str, Any]:
    answers = [
        {"word": word, "k": k, "right": share, "n": 500}
        for word in ("recall", "copy")
        for k, share in zip((1, 2, 4, 64), right, strict=True)
    ]
    each = [bits * 10 + 0.01 * i for i in range(20)]
    reach = {f"{word}_reach": reach_of(answers, word) for word in ("recall", "copy")}
    return {
        "name": name,
        "title": name,
        "bits_per_byte": bits,
        "bits": each,
        "bytes": [10] * 20,
        "answers": answers,
    } | (reach | more)


def test_verdicts_say_it_when_the_story_does_not_appear() -> None:
    def said(rnn: float, lstm: float, right: list[float]) -> tuple[dict[str, str], dict[str, str]]:
        rows = [row("rnn", rnn, [0.5, 0.3, 0.2, 0]), row("lstm", lstm, right)]
        record = {"rows": rows, "trained": {"recall": 32, "copy": 12}, "reach": {}, "pairs": PAIRS}
        found = {verdict["text"].split("?")[0]: verdict for verdict in verdicts(record)}
        return found["Do gates help on text"], found["Do gates carry further than a plain state"]

    text, probe = said(2.0, 1.9, [1, 0.95, 0.95, 0.5])
    assert text["tone"] == probe["tone"] == "good" and "? Yes." in text["text"]
    assert "LSTM keeps above 90 % to k = 4" in probe["text"] and "RNN stays below 90 %" in probe["text"]
    text, probe = said(1.9, 2.0, [0.3, 0.1, 0.1, 0.1])
    assert text["tone"] == "bad" and "the opposite" in text["text"]
    assert probe["tone"] == "plain" and "Not to be seen" in probe["text"], "both guess"
    text, probe = said(2.0, 2.0, [0.5, 0.3, 0.2, 0.0])
    assert text["tone"] == "plain" and "No difference shows" in text["text"]


def test_gaps_and_reaches() -> None:
    assert bits_gap(row("a", 2.0, [1, 1, 1, 1]), row("b", 1.5, [1, 1, 1, 1])).value == pytest.approx(0.5)
    answers = row("a", 2.0, [1, 0.95, 0.5, 1])["answers"]
    assert reach_of(answers, "recall") == 2, "a gap ends the reach, whatever comes after it"
    assert reach_of(row("a", 2.0, [0.5, 1, 1, 1])["answers"], "recall") == 0


def test_who_is_chosen() -> None:
    assert [each.name for each in choose(["gpt", "lstm"])] == ["lstm", "gpt"]
    with pytest.raises(UsageError, match="did you mean 'mamba'"):
        LineageConfig.parse({"only": ("mambo",)})
    assert issubclass(LineageConfig, Config)


@pytest.mark.slow
def test_a_small_race_makes_a_page_and_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanok.recipes.lineage.race.cpu_count", lambda: 1)
    text = tmp_path / "text.txt"
    words = ["the cat sat on the mat", "a dog ran to the door", "birds sing in the morning", "rain falls on the roof"]
    text.write_text("\n\n".join(f"{words[i % 4]} {words[(i * 7 + i // 4) % 4]} {i}." * 6 for i in range(400)))
    config = LineageConfig.parse(
        {"minutes": 0.01, "only": ("ngram", "mlp", "lstm", "attention"), "data": (str(text),), "vocab_size": 300}
    )
    results = Race(config, tmp_path / "run", quiet=True).run()
    assert [each["name"] for each in results["rows"]] == ["ngram", "mlp", "lstm", "attention"]
    networks = [each for each in results["rows"] if each["name"] != "ngram"]
    assert len({each["tokens_read"] for each in networks}) == 1, "equal budgets"
    assert len({tuple(each["bytes"]) for each in results["rows"]}) == 1, "the same bytes"
    assert all(0 < each["bits_per_byte"] < 8 and each["decoding_tokens_per_second"] > 0 for each in results["rows"])
    assert set(results["reach"]) == {"lstm, at the start", "lstm, trained"}
    page = write_page(results, tmp_path / "run").read_text(encoding="utf-8")
    assert page.count("<h2 id=") == 5 and "http://" not in page.split("<script>")[0]
    assert all(verdict["text"][:40].replace("'", "&#39;") in page for verdict in results["verdicts"])
    table = (tmp_path / "run" / "table.md").read_text(encoding="utf-8")
    assert "| LSTM | 2012 |" in table and (tmp_path / "run" / "figs" / "probes.csv").is_file()
    again = Race(config, tmp_path / "run", quiet=True).run()
    assert json.dumps(again["rows"]) == json.dumps(results["rows"]), "a second call runs nothing anew"


@torch.no_grad()
def test_logits_of_counted_targets_only() -> None:
    model = Model(choose(["attention"])[0].probe_config(VOCAB["recall"], 60))
    batch = recall(3, 6, 1, torch.Generator().manual_seed(0), asked=2, split=True)
    logits, where = logits_of(model, batch)
    whole = model(batch.tokens, source=batch.columns["source"]).flatten(0, 1)
    assert len(logits) == 6 == int(batch.weights.sum())
    torch.testing.assert_close(logits, whole[where], rtol=1e-5, atol=1e-5)
