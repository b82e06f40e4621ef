"""The model that samples is the model that learns: log-probs equal to the last bit, ratios of exactly one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hanok.align.advantage.grpo import GroupNormalised
from hanok.align.prompts import Prompt
from hanok.align.rollout import RolloutConfig, Rollouts, Scored
from hanok.align.score import token_scores
from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.ops.numerics import numerics
from hanok.train.loop import LoopConfig, accumulate, train
from hanok.train.objective.grpo import GRPO
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState

Speaker = Callable[..., LLM]
KINDS = ["llama-tiny", "rglru-tiny", "griffin-tiny"]


def early(prompts: Any, completions: list[str], **columns: Any) -> list[float]:
    """Reward tokens from the front of the alphabet, a little noisily."""
    return [sum(1.0 for c in text if c in "abc") - 0.1 * len(text) for text in completions]


def rollouts(llm: LLM, mode: str = "exact", reference: bool = False, **options: Any) -> Rollouts:
    assert llm.tokenizer is not None
    assert llm.chat is not None
    texts = ["a", "b c d", "e f g h a b", "c"]
    prompts = [
        Prompt(t, llm.chat.encode(llm.tokenizer, [{"role": "user", "content": t}], generation=True).tokens, {})
        for t in texts
    ]
    config = RolloutConfig(**{"prompts": 4, "group": 4, "max_tokens": 12, "numerics": mode, **options})
    advantage = GroupNormalised(GroupNormalised.Config())
    frozen = copy.deepcopy(llm.model) if reference else None
    return Rollouts(llm, prompts, [Scored("early", 1.0, early)], advantage, config, reference=frozen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probs_of_engine_and_trainer_are_the_same_bits(kind: str, dtype: torch.dtype, speaker: Speaker) -> None:
    llm = speaker(kind)
    llm.model.to(dtype)
    batch = rollouts(llm).next_batch()
    with numerics("exact"):
        trainer = token_scores(llm.model, batch)
    counted = batch.weights > 0
    assert counted.sum() > 60
    difference = (trainer - batch.columns["old_logprobs"])[counted].abs().max()
    assert difference.item() == 0.0


def test_control_with_fast_numerics_they_differ(speaker: Speaker) -> None:
    llm = speaker()
    batch = rollouts(llm, "fast").next_batch()
    trainer = token_scores(llm.model, batch)
    difference = (trainer - batch.columns["old_logprobs"])[batch.weights > 0].abs().max()
    assert 0 < difference.item() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_update_has_ratios_of_exactly_one(kind: str, speaker: Speaker) -> None:
    llm = speaker(kind)
    source = rollouts(llm, reference=True, parts=2, updates=2)
    model = llm.model
    state = TrainState(model, AdamW(AdamWConfig(lr=0.01), model), source, 1)
    objective = GRPO(GRPO.Config(beta=0.1))
    loop = LoopConfig(numerics="exact", accumulate=2)
    with numerics("exact"):
        figures = accumulate(state, objective, [source.next_batch() for _ in range(2)], loop)
        assert figures["ratio/max"].item() == 1.0
        assert figures["ratio/min"].item() == 1.0
        assert figures["kl"].item() == 0.0
        state.optimizer.step(1.0)
        second = accumulate(state, objective, [source.next_batch() for _ in range(2)], loop)
    assert second["ratio/max"].item() > 1.0 > second["ratio/min"].item()
    assert second["kl"].item() > 0.0


def test_the_engine_runs_on_the_very_weights_that_learn(speaker: Speaker) -> None:
    """After an update the next round's log-probs are those of the new weights, with nothing synchronised."""
    llm = speaker()
    source = rollouts(llm)
    state = TrainState(llm.model, AdamW(AdamWConfig(lr=0.02), llm.model), source, 3)
    record = train(state, GRPO(GRPO.Config()), Constant(Constant.Config()), LoopConfig(numerics="exact"))
    assert record["ratio/max"] == record["ratio/min"] == 1.0
    assert record["grad_norm"] > 0


def test_batches_hold_what_was_drawn(speaker: Speaker) -> None:
    llm = speaker()
    source = rollouts(llm, reference=True, parts=2)
    parts = [source.next_batch(), source.next_batch()]
    rows = [row for part in parts for row in range(part.tokens.shape[0])]
    assert len(rows) == 16 == len(source.table)
    at = 0
    assert llm.tokenizer is not None
    for part in parts:
        for row in range(part.tokens.shape[0]):
            counted = part.weights[row] > 0
            drawn = part.targets[row][counted].tolist()
            assert llm.tokenizer.decode([t for t in drawn if t not in llm.stop_ids]) == source.table[at]["completion"]
            advantage = torch.tensor(source.table[at]["advantage"])
            assert (part.columns["advantages"][row][counted] == advantage).all()
            assert not part.columns["advantages"][row][~counted].any()
            at += 1
    figures = source.figures
    lengths = [int((part.weights[row] > 0).sum()) for part in parts for row in range(part.tokens.shape[0])]
    assert figures["completions/mean_length"] == pytest.approx(sum(lengths) / 16)
    assert figures["completions/max_length"] == max(lengths) <= 12
    assert figures["reward"] == pytest.approx(sum(row["reward"] for row in source.table) / 16, abs=1e-5)
    assert 0 <= figures["frac_reward_zero_std"] <= 1


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("served", [0, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4, 5))])
def test_a_round_goes_on_where_it_was(served: int, reference: bool, speaker: Speaker) -> None:
    """A saved position in the middle of a round lays its completions out again; new rounds are drawn the same."""
    import json

    options = {"parts": 2, "updates": 2}
    whole = rollouts(speaker(), reference=reference, **options)
    batches = [whole.next_batch() for _ in range(8)]
    first = rollouts(speaker(), reference=reference, **options)
    for _ in range(served):
        first.next_batch()
    second = rollouts(speaker(), reference=reference, **options)
    second.restore(json.loads(json.dumps(first.state())))
    for expected in batches[served:]:
        found = second.next_batch()
        assert torch.equal(found.tokens, expected.tokens)
        assert found.columns.keys() == expected.columns.keys()
        for name, value in expected.columns.items():
            assert torch.equal(found.columns[name], value), name
    assert {k: v for k, v in second.figures.items() if "time" not in k} == {
        k: v for k, v in whole.figures.items() if "time" not in k
    }


def test_mistakes_are_named(speaker: Speaker) -> None:
    with pytest.raises(UsageError, match="cannot be cut into 3 equal parts"):
        rollouts(speaker(), parts=3)
    for scores, message in (([1.0], "returned 1 scores for 16"), ([float("nan")] * 16, "not a finite number")):
        source = rollouts(speaker())
        source.rewards = [Scored("odd", 1.0, lambda prompts, completions, scores=scores, **columns: scores)]
        with pytest.raises(UsageError, match=message):
            source.next_batch()
