from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.core.errors import UsageError
from hanok.text.batch import ALL, Batch, pack, pad_batch
from hanok.text.trace import Span, Trace, document


def trace(tokens: list[int], start: int, end: int) -> Trace:
    return Trace(tokens, [Span(start, end, "assistant")])


def test_targets_are_shifted_and_weighted_where_the_assistant_writes() -> None:
    batch = pad_batch([trace([5, 6, 7, 8, 9], 2, 4), trace([5, 6], 1, 2)], pad_id=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8], [5, 0, 0, 0]]
    assert batch.targets.tolist() == [[6, 7, 8, 9], [6, 0, 0, 0]]
    assert batch.weights.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 3]] * 2
    assert batch.segments is None and batch.num_targets == 3
    assert batch.tokens.dtype == batch.targets.dtype == torch.int64 and batch.weights.dtype == torch.float32


def test_log_probs_stay_beside_their_targets() -> None:
    prompt = Trace([1, 2, 3])
    rollout = prompt.extend([4, 5], logprobs=[-0.5, -1.5])
    batch = pad_batch([rollout, Trace([1, 2], [Span(1, 2, "assistant")])], pad_id=0)
    assert batch.columns["logprobs"].tolist() == [[0, 0, -0.5, -1.5], [0, 0, 0, 0]]
    assert batch.weights.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]
    assert rollout.spans[-1].source == "model"
    moved = batch.with_columns(advantage=torch.ones(2)).to("cpu")
    assert set(moved.columns) == {"logprobs", "advantage"} and isinstance(moved, Batch)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 17), min_size=1, max_size=12).filter(lambda sizes: max(sizes) > 1))
def test_packing_keeps_every_target_once(sizes: list[int]) -> None:
    traces = [document([100 * i + j for j in range(n)]) for i, n in enumerate(sizes, 1)]
    batch = pack(traces, 16, pad_id=0, role="document")
    assert batch.segments is not None
    pairs = [
        (int(t), int(y))
        for t, y, w in zip(batch.tokens.flatten(), batch.targets.flatten(), batch.weights.flatten(), strict=True)
        if w
    ]
    assert sorted(pairs) == sorted((t.tokens[j], t.tokens[j + 1]) for t in traces for j in range(len(t) - 1))
    for row in range(batch.tokens.shape[0]):
        for segment in batch.segments[row].unique():
            inside = batch.segments[row] == segment
            assert batch.positions[row][inside].tolist() == list(range(int(inside.sum())))
            owners = {int(t) // 100 for t in batch.tokens[row][inside & (batch.weights[row] > 0)]}
            assert len(owners) <= 1
    assert batch.weights[batch.tokens == 0].sum() == 0


def test_mistakes_are_explained() -> None:
    with pytest.raises(UsageError, match="does not fit rows of 3"):
        pack([document([1, 2, 3, 4, 5])], 3, pad_id=0)
    with pytest.raises(UsageError, match="does not fit"):
        pad_batch([document([1, 2, 3, 4, 5])], 0, length=3)
    with pytest.raises(UsageError, match="at least one trace"):
        pad_batch([], 0)
    with pytest.raises(UsageError, match="overlaps"):
        Trace([1, 2], [Span(0, 2, "user"), Span(1, 2, "assistant")])
    with pytest.raises(UsageError, match="1 log-probs for 2 tokens"):
        Trace([1, 2], [], [0.0])
    assert pad_batch([document([1, 2, 3])], 0, role=ALL, multiple=8).weights.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0]]
