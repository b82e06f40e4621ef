"""DPO and GRPO as stages: they learn, every parameter moves, and bad files are named by line and column."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hanok.align.stages import DPO, GRPO, DPOConfig, GRPOConfig, grpo
from hanok.core.errors import UsageError
from hanok.core.log import Log, read_metrics
from hanok.core.stage import run_stage
from hanok.model.weights import load_model
from hanok.text.chat.chatml import JINJA

ADAMW = {"kind": "adamw", "lr": 0.003, "weight_decay": 0.0}
QUIET = Log(quiet=True)


def moved(before: Path, after: Path) -> None:
    """Assert that every parameter is another one than it was."""
    one, two = load_model(before).state_dict(), load_model(after).state_dict()
    assert one.keys() == two.keys()
    stuck = [name for name in one if torch.equal(one[name], two[name])]
    assert not stuck


def test_dpo_learns(home: Path) -> None:
    config = DPOConfig.parse({"steps": 25, "batch": 8, "length": 48, "optimizer": ADAMW})
    inputs = {"model": home / "model", "preferences": home / "preferences.jsonl"}
    artifact = run_stage(DPO, config, inputs, home / "runs", log=QUIET)
    records = read_metrics(artifact.path / "metrics.jsonl")
    assert records[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are one at first
    assert records[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert records[-1]["loss"] < 0.3
    assert records[-1]["rewards/accuracies"] == 1.0
    assert records[-1]["rewards/chosen"] > records[-1]["rewards/rejected"]
    assert {"logps/chosen", "logps/rejected", "learning_rate", "grad_norm", "global_step"} <= records[-1].keys()
    moved(home / "model", artifact.path)
    assert not (artifact.path / "checkpoints").exists()


def test_the_result_opens_in_transformers(home: Path) -> None:
    config = DPOConfig.parse({"steps": 1, "batch": 2, "length": 48})
    inputs = {"model": home / "model", "preferences": home / "preferences.jsonl"}
    artifact = run_stage(DPO, config, inputs, home / "runs", log=QUIET)
    theirs = AutoModelForCausalLM.from_pretrained(artifact.path)
    tokenizer = AutoTokenizer.from_pretrained(artifact.path)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    tokens = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, load_model(artifact.path)(tokens), rtol=1e-4, atol=1e-4)


def test_grpo_raises_its_reward(home: Path) -> None:
    """A reward that a random model can find: answers from the first letters of the alphabet."""

    def early(prompts: list[Any], completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        assert all(prompt[0]["content"] == a for prompt, a in zip(prompts, answer, strict=True))
        return [sum(1.0 for c in text if c in "abcdefgh") / 6 for text in completions]

    config = GRPOConfig.parse(
        {"steps": 15, "batch": 4, "group": 8, "length": 48, "max_tokens": 6, "optimizer": {**ADAMW, "lr": 0.01}}
    )
    inputs = {"model": home / "model", "prompts": home / "prompts.jsonl"}
    grpo(config, inputs, home / "out", QUIET, rewards=[early])
    records = read_metrics(home / "out" / "metrics.jsonl")
    assert len(records) == 15
    assert records[0]["ratio/max"] == records[0]["ratio/min"] == 1.0
    first, last = (sum(r["reward"] for r in part) / 3 for part in (records[:3], records[-3:]))
    assert last > first + 0.3
    assert {
        "rewards/early/mean",
        "rewards/early/std",
        "reward_std",
        "frac_reward_zero_std",
        "completions/mean_length",
        "completions/clipped_ratio",
        "entropy",
        "clip_ratio/region_mean",
    } <= records[-1].keys()
    moved(home / "model", home / "out")
    samples = [json.loads(line) for line in (home / "out" / "samples.jsonl").read_text().splitlines()]
    assert {"step", "prompt", "completion", "reward", "advantage"} <= samples[0].keys()


def test_grpo_as_a_stage_with_registered_rewards(home: Path) -> None:
    config = GRPOConfig.parse(
        {
            "steps": 2,
            "batch": 2,
            "group": 4,
            "length": 48,
            "max_tokens": 4,
            "rewards": ["exact_match", {"kind": "finished", "weight": 0.5}, {"kind": "format", "pattern": "[a-h]"}],
            "advantage": "rloo",
            "objective": {"beta": 0.05, "aggregate": "constant", "max_tokens": 4},
            "loop": {"accumulate": 2, "numerics": "exact"},
        }
    )
    inputs = {"model": home / "model", "prompts": home / "prompts.jsonl"}
    artifact = run_stage(GRPO, config, inputs, home / "runs", log=QUIET)
    records = read_metrics(artifact.path / "metrics.jsonl")
    assert {"kl", "rewards/exact_match/mean", "rewards/finished/mean", "rewards/format/mean"} <= records[-1].keys()
    assert GRPOConfig.parse(config.to_dict()) == config


@pytest.mark.parametrize(
    ("stage", "file", "row", "message"),
    [
        ("dpo", "preferences.jsonl", {"prompt": "a", "chosen": "b"}, r"line 3: .*'rejected'"),
        ("dpo", "preferences.jsonl", {"prompt": "a", "chosen": 7, "rejected": "b"}, r"line 3: chosen"),
        ("grpo", "prompts.jsonl", {"promt": "a"}, r"line 3: .*'prompt'.*did you mean 'promt'"),
        ("grpo", "prompts.jsonl", {"prompt": [{"role": "user"}]}, r"line 3: prompt"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_column(
    stage: str, file: str, row: dict[str, Any], message: str, home: Path
) -> None:
    lines = (home / file).read_text().splitlines()[:2]
    (home / file).write_text("\n".join([*lines, json.dumps(row)]) + "\n")
    which, config, name = {
        "dpo": (DPO, DPOConfig.parse({"steps": 1, "length": 48}), "preferences"),
        "grpo": (GRPO, GRPOConfig.parse({"steps": 1, "length": 48}), "prompts"),
    }[stage]
    with pytest.raises(UsageError, match=message) as caught:
        run_stage(which, config, {"model": home / "model", name: home / file}, home / "runs", log=QUIET)
    assert file in str(caught.value)


def test_mistakes_are_refused_before_anything_runs(home: Path) -> None:
    with pytest.raises(UsageError, match="either steps or minutes"):
        DPOConfig.parse({})
    with pytest.raises(UsageError, match="leaves no room"):
        GRPOConfig.parse({"steps": 1, "length": 16, "max_tokens": 16})
    with pytest.raises(UsageError, match=r"unknown reward 'exact_mach'; did you mean 'exact_match'"):
        GRPOConfig.parse({"steps": 1, "rewards": ["exact_mach"]})
    with pytest.raises(UsageError, match=r"unknown key 'objective.betta'; did you mean 'beta'"):
        DPOConfig.parse({"steps": 1, "objective": {"betta": 1}})
    with pytest.raises(UsageError, match="context of 96"):
        config = GRPOConfig.parse({"steps": 1, "length": 128})
        grpo(config, {"model": home / "model", "prompts": home / "prompts.jsonl"}, home / "out", QUIET)
    (home / "model" / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="no chat format"):
        config = GRPOConfig.parse({"steps": 1, "length": 64})
        grpo(config, {"model": home / "model", "prompts": home / "prompts.jsonl"}, home / "out", QUIET)
    with pytest.raises(UsageError, match="preference pairs fits"):
        (home / "model" / "chat_template.jinja").write_text(JINJA)
        inputs = {"model": home / "model", "preferences": home / "preferences.jsonl"}
        run_stage(DPO, DPOConfig.parse({"steps": 1, "length": 4}), inputs, home / "runs", log=QUIET)


def test_earlier_turns_of_the_assistant_are_context(home: Path) -> None:
    from hanok.align.pairs import answer_trace
    from hanok.train.bundle import Bundle

    bundle = Bundle.load(home / "model")
    turn = lambda role, text: {"role": role, "content": text}  # noqa: E731
    history = [turn("user", "a"), turn("assistant", "b b b"), turn("user", "c")]
    trace = answer_trace(bundle.tokenizer, bundle.speaking(), history, [turn("assistant", "d e")])
    counted = [token for token, mark in zip(trace.tokens, trace.mask(), strict=True) if mark]
    assert bundle.tokenizer.decode(counted) == "d e"
    plain = bundle.speaking().encode(bundle.tokenizer, [*history, turn("assistant", "d e")])
    assert trace.tokens == plain.tokens
    assert sum(plain.mask()) > len(counted)
