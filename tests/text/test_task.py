from __future__ import annotations

import json
import random
import statistics
import unicodedata
from pathlib import Path

import pytest

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.text.data.split import Split
from hanok.text.task import TASKS, Item, make_task
from hanok.text.task.josa import CLOSED, OPEN, has_final
from hanok.text.task.sets import TaskSetsConfig, run_task_sets

NAMES = ("addition", "copy", "josa", "json_extract", "reversal")
SPLITS: tuple[Split, ...] = ("train", "valid", "held_out")
HARDER = {
    "addition": {"digits": [1, 3]},
    "copy": {"length": [2, 8]},
    "reversal": {"length": [2, 8]},
    "json_extract": {"entries": [2, 6], "digits": [1, 3]},
    "josa": {"syllables": [1, 4], "inventory": 100},
}


def solve(item: Item) -> str:
    """Answer from the prompt alone, written independently of the tasks."""
    prompt = item.prompt
    if item.task == "addition":
        return str(eval(prompt.rstrip(" =")))
    if item.task == "copy":
        return prompt.split(": ")[1]
    if item.task == "reversal":
        return prompt.split(": ")[1][::-1]
    if item.task == "json_extract":
        data, name = eval(prompt[: prompt.index("}") + 1]), prompt.split()[-1].strip('"')
        return f'"{name}": {data[name]}'
    noun, pair = prompt.split(" + ")
    jamo = unicodedata.normalize("NFD", noun[-1])  # three jamo: there is a final consonant
    return pair.strip("()").split("/")[0 if len(jamo) == 3 else 1]


def test_the_folder_is_the_list() -> None:
    assert tuple(TASKS) == NAMES
    assert all(entry.summary for entry in TASKS.describe())


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_right_and_wrong_ones_score_lower(name: str) -> None:
    for task in (make_task(name), make_task({"kind": name, **HARDER[name]})):
        rng = random.Random(0)
        for item in task.items("train", 200, 3):
            assert item.answer == solve(item) and item.task == name
            assert task.score(item, item.answer) == 1 == task.score(item, f" {item.answer}\n")
            wrong = task.wrong(item, rng)
            assert wrong and task.score(item, wrong) == 0
            assert item.messages("x")[1] == {"role": "assistant", "content": "x"}


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_across_seeds_sizes_and_difficulties(name: str) -> None:
    keys: dict[str, set[str]] = {split: set() for split in SPLITS}
    for spec in ({"kind": name}, {"kind": name, **HARDER[name]}):
        for seed in (0, 1):
            for split in SPLITS:
                items = make_task(spec).items(split, 150, seed)
                assert len({item.prompt for item in items}) == len(items) == 150
                keys[split] |= {item.key for item in items}
    assert not keys["train"] & keys["held_out"] and not keys["train"] & keys["valid"]
    assert not keys["valid"] & keys["held_out"]


def test_keys_hold_whatever_would_give_the_answer_away() -> None:
    for name, partner in {
        "addition": lambda item: " + ".join(reversed(item.prompt.rstrip(" =").split(" + "))) + " =",
        "reversal": lambda item: f"reverse: {item.answer}",
    }.items():
        train = {item.prompt for item in make_task(name).items("train", 3000, 0)}
        for item in make_task(name).items("held_out", 100, 0):
            assert partner(item) not in train and item.prompt not in train


@pytest.mark.parametrize("name", NAMES)
def test_items_depend_on_the_seed_alone(name: str) -> None:
    task = make_task(name)
    assert task.items("valid", 40, 5) == make_task(name).items("valid", 40, 5)
    assert task.items("valid", 40, 5) != task.items("valid", 40, 6)


@pytest.mark.parametrize("name", NAMES)
def test_guessing_scores_the_chance_that_is_claimed(name: str) -> None:
    """Guess as each task describes it and compare; addition is far too rare to be hit often."""
    task, rng = make_task(name), random.Random(1)

    def guess(item: Item) -> str:
        if name == "addition":
            return str(rng.randint(0, 198))
        if name in ("copy", "reversal"):
            letters = item.answer.split()
            return " ".join(rng.sample(letters, len(letters)))
        if name == "josa":
            return rng.choice(item.prompt.split("(")[1].rstrip(")").split("/"))
        values = [part.split(":")[1] for part in item.prompt[1 : item.prompt.index("}")].split(",")]
        return item.prompt.split()[-1] + ":" + rng.choice(values)

    items = [task.draw(rng) for _ in range(4000)]
    rate = statistics.mean(task.score(item, guess(item)) for item in items)
    assert rate == pytest.approx(task.chance, abs=0.03)


def test_a_used_up_split_repeats_for_training_and_is_an_error_otherwise() -> None:
    small = make_task({"kind": "copy", "length": [2, 2], "alphabet": 4})  # 12 items in all
    train = small.items("train", 50, 0)
    assert len(train) == 50 and len({item.prompt for item in train}) <= 12
    with pytest.raises(UsageError, match=r"task copy has only \d+ items in the split 'held_out', 50 were asked for"):
        small.items("held_out", 50, 0)


def test_difficulty_is_checked() -> None:
    for spec, expected in (
        ({"kind": "addition", "digits": [3, 1]}, "digits must be a range"),
        ({"kind": "copy", "length": [1, 3]}, "length must be a range"),
        ({"kind": "json_extract", "entries": [2, 20]}, "entries must be a range"),
        ({"kind": "josa", "sylables": [1, 2]}, "did you mean 'syllables'"),
        ({"kind": "josa", "inventory": 1000}, "less than or equal"),
    ):
        with pytest.raises(UsageError, match=expected):
            make_task(spec)
    with pytest.raises(UsageError, match="unknown task 'adition'; did you mean 'addition'"):
        make_task("adition")
    assert isinstance(make_task("copy").config, PartConfig)


def test_final_consonants() -> None:
    assert not any(map(has_final, OPEN)) and all(map(has_final, CLOSED))
    assert has_final("학생") and not has_final("사과")


def test_careless_demonstrations_are_as_wrong_as_asked_and_nothing_else_is(tmp_path: Path) -> None:
    config = TaskSetsConfig.parse({"conversations": 300, "careless": {"josa": 0.25}, "held_out": 20, "valid": 20})
    run_task_sets(config, {}, tmp_path, Log(quiet=True))
    wrong = dict.fromkeys(NAMES, 0)
    for line in (tmp_path / "conversations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        question, answer = (message["content"] for message in row["messages"])
        wrong[row["task"]] += answer != solve(Item(question, "", row["task"], ""))
    assert 45 <= wrong.pop("josa") <= 105 and set(wrong.values()) == {0}
    with pytest.raises(UsageError, match="careless"):
        TaskSetsConfig.parse({"careless": {"jossa": 0.2}})
