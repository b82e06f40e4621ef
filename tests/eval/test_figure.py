import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hanok.eval.figure import accuracy, table, wilson
from hanok.eval.score import SCORES


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case):
    hits, n = case
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_accuracy():
    found = accuracy("copy", [1.0] * 30 + [0.0] * 10, chance=0.5)
    assert found.value == 0.75 and found.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 39))
    assert found.low < 0.75 < found.high and found.above_chance
    assert not accuracy("coin", [1.0, 0.0] * 20, chance=0.5).above_chance
    assert accuracy("one", [1.0], chance=0.0).stderr == 0.0


def test_table_is_lm_evals():
    """The header, the rule and the cells that its readers parse."""
    text = table([("josa", "acc", "↑", 0.5, 0.05), ("documents", "bits_per_byte", "↓", 2.25, None)])
    head, rule, first, second = text.splitlines()
    cells = [cell.strip() for cell in head.strip("|").split("|")]
    assert cells == ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"]
    assert set(rule) == {"|", "-", ":"} and len({len(line) for line in text.splitlines()}) == 1
    assert [cell.strip() for cell in first.strip("|").split("|")][4:] == ["acc", "↑", "0.5000", "±", "0.0500"]
    assert second.strip("|").split("|")[-1].strip() == "N/A"


@pytest.mark.parametrize(
    ("name", "completion", "answer", "score"),
    [
        ("exact", " 42\n", "42", 1),
        ("exact", "42.", "42", 0),
        ("exact", "한옥", "한옥", 1),
        ("contains", "the answer is 42", "42", 1),
        ("contains", "no", "42", 0),
        ("json", '{"b": 1, "a": [2]}', '{"a":[2],"b":1}', 1),
        ("json", '{"a": 1}', '{"a": 2}', 0),
        ("json", "{", "{}", 0),
    ],
)
def test_scores(name, completion, answer, score):
    assert SCORES[name](completion, answer) == score
