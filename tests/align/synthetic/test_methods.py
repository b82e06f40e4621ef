"""Each method against a model whose answers are written here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hanok.align.synthetic.ask import Ask, Reply
from hanok.align.synthetic.method import METHODS
from hanok.align.synthetic.method.evol_instruct import DEEPER, answer_fault, instruction_fault
from hanok.align.synthetic.method.self_instruct import fault_of, instance, tasks_of
from hanok.align.synthetic.stages import DROPPED, ROWS, SynthesisConfig, synthesis_stage
from hanok.core.artifact import Artifact
from hanok.core.errors import HanokError, Interrupted, UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.data.read import read_conversations

Answer = Callable[[str, int], Reply | str]


class Canned:
    """Answers by a function of the question's text and its number."""

    name = "canned"

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, list[Ask]()

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply]]:
        """Answer in order."""
        for at, one in enumerate(asks):
            said = self.answer(one.messages[-1]["content"], len(self.asked))
            self.asked.append(one)
            yield at, Reply(said) if isinstance(said, str) else said


def make(home: Path, answer: Answer, seeds: list[dict[str, Any]], **settings: Any) -> tuple[Artifact, Canned]:
    """Run the stage on seeds and return what it left, and the writer."""
    file = home / "seeds.jsonl"
    file.write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    writer = Canned(answer)
    config = SynthesisConfig.parse(settings)
    stage = synthesis_stage(writer, {"seeds": "conversations"}, config)
    return run_stage(stage, config, {"seeds": file}, home / "runs", log=Log(None, quiet=True)), writer


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (artifact.path / ROWS).read_text().splitlines()]


def reasons_of(artifact: Artifact) -> list[str]:
    return [json.loads(line)["reason"] for line in (artifact.path / DROPPED).read_text().splitlines()]


def test_self_instruct_goes_through_its_three_questions(tmp_path: Path) -> None:
    def answer(text: str, number: int) -> str:
        if text.startswith("Come up"):
            return (
                "Task 3: Sort the words of a sentence by length\nTask 4: Draw a picture of a house and a tree\n"
                "Task 5: Is this review about food friendly or not?\nTask 6: Explain snow to a small child"
            )
        if text.startswith("Can the"):
            return "Yes, it can." if "review" in text else "No"
        return "Class label: friendly\nInput: It was good." if "class label" in text else "Input: None\nOutput: done it"

    seeds = [{"instruction": "Explain snow to a child", "output": "a"}, {"prompt": "Add 1 and 2", "completion": "3"}]
    artifact, writer = make(tmp_path, answer, seeds, rows=2, batch=1)
    rows = rows_of(artifact)
    assert [row["instruction"] for row in rows] == [
        "Sort the words of a sentence by length",
        "Is this review about food friendly or not?",
    ]
    assert rows[1]["prompt"].endswith("?\n\nIt was good.") and rows[1]["completion"] == "friendly"
    assert rows[0]["prompt"] == rows[0]["instruction"] and rows[0]["model"] == "canned"
    assert set(rows[0]["parents"]) == {"seed-0", "seed-1"}
    assert reasons_of(artifact) == ["the instruction asks for more than text", "an instruction like it is there"]
    assert len(writer.asked) == 1 + 2 + 2 and len({ask.seed for ask in writer.asked}) == 5
    assert [turn["content"] for turn in read_conversations([artifact.path / ROWS])[1]][1] == "friendly"


def test_self_instruct_reads_lists_as_models_write_them() -> None:
    assert tasks_of(Reply("Name three rivers of Asia\nTask 10: Sum the list\n11. Say it again"), 8, 8) == [
        "Name three rivers of Asia",
        "Sum the list",
        "Say it again",
    ]
    assert tasks_of(Reply("Task 9: Whole\nTask 10: cut of", finished=False), 8, 8) == ["Whole"]
    assert [
        fault_of(task) is None for task in ("Too short", "-- a b c d e", "word " * 151, "이 글을 한 문장으로 줄이세요")
    ] == [
        False,
        False,
        False,
        True,
    ]
    assert (
        instance("t", False, Reply("no form at all"), ()).fault
        and instance("t", False, Reply("Input: a\nOutput: a"), ()).fault
    )


def test_evol_instruct_evolves_what_has_evolved_and_eliminates_failures(tmp_path: Path) -> None:
    def answer(text: str, number: int) -> str:
        if "Not equal" in text:
            return "Equal" if number % 5 == 0 else "Not equal"
        if "Instruction:\n" in text:
            return f"Task number {number} of kind {number * 7} about thing {number * 13}"
        return f"answer {number}" if number % 4 else "Sorry, I cannot do that."

    artifact, writer = make(
        tmp_path, answer, [{"instruction": "Name a river", "output": "Han"}], method="evol_instruct", rows=12, batch=3
    )
    rows = rows_of(artifact)
    assert len(rows) == 12 and {row["generation"] for row in rows} > {1} and max(row["generation"] for row in rows) <= 4
    assert {"no gain over its parent", "the answer excuses itself"} & set(reasons_of(artifact))
    asked = " ".join(ask.messages[0]["content"] for ask in writer.asked)
    assert sum(text in asked for text in DEEPER.values()) >= 3
    assert instruction_fault("As in the given prompt, add 1", "add") and not instruction_fault("add 1 and 2", "add")
    assert answer_fault("...") and answer_fault("Sorry.") and not answer_fault("The sorry tale. " * 40)


def test_textbooks_vary_and_have_a_text_column(tmp_path: Path) -> None:
    seeds: list[dict[str, Any]] = [{"topic": "온돌"}, {"text": "Timber frames are joined."}]
    artifact, writer = make(
        tmp_path,
        lambda text, number: f"Passage {number} {'x y z ' * number}",
        seeds,
        method="textbook",
        rows=8,
        batch=4,
    )
    asked = {ask.messages[0]["content"] for ask in writer.asked}
    assert len(asked) > 4 and any("온돌" in text for text in asked) and any("Timber" in text for text in asked)
    assert artifact.kind == "text" and {"text", "reader", "form", "id"} < set(rows_of(artifact)[0])


def test_backtranslation_keeps_documents_word_for_word_by_its_own_score(tmp_path: Path) -> None:
    def answer(text: str, number: int) -> str:
        if "number alone" in text:
            return "2" if "bad" in text else "Score: 5"
        return "Write about " + text.split("Text:\n")[1]

    seeds = [{"text": word} for word in ("rivers of Korea", "bad stuff here", "houses with wooden frames")]
    artifact, _ = make(tmp_path, answer, seeds, method="backtranslation", batch=2)
    assert [row["completion"] for row in rows_of(artifact)] == ["rivers of Korea", "houses with wooden frames"]
    assert reasons_of(artifact) == ["the model's own score is below 4"]


def test_solve_keeps_what_the_verifier_passes_and_each_answer_once(tmp_path: Path) -> None:
    seeds = [{"prompt": f"{n} + {n} =", "answer": str(2 * n)} for n in (1, 2, 3)]

    def answer(text: str, number: int) -> Reply:
        n = int(text[0])
        return Reply(str(2 * n if number % 2 else 2 * n + 1), finished=number != 11)

    settings = {"method": {"kind": "solve", "samples": 4}, "rewards": ["exact_match"], "batch": 5}
    artifact, writer = make(tmp_path, answer, seeds, **settings)
    rows = rows_of(artifact)
    assert len(writer.asked) == 12 and all(row["completion"] == row["answer"] for row in rows)
    assert sorted(row["answer"] for row in rows) == ["2", "4", "6"]
    reasons = artifact.metrics["dropped"]
    assert (
        reasons["the verifier"] == 6
        and reasons["a copy of"] == 2
        and reasons["the reply was cut off at max_tokens"] == 1
    )
    # The control: without the verifier wrong answers get in.
    unguarded, _ = make(tmp_path, answer, seeds, **{**settings, "rewards": []})
    assert any(row["completion"] != row["answer"] for row in rows_of(unguarded))


def test_what_cannot_go_on_says_why(tmp_path: Path) -> None:
    seed = [{"instruction": "Name a river", "output": "Han"}]
    with pytest.raises(UsageError, match="rows=1000"):
        make(tmp_path, lambda text, number: "a", seed)
    with pytest.raises(HanokError, match="brought no row"):
        make(tmp_path, lambda text, number: "no list", seed, rows=3, batch=1, patience=2)
    with pytest.raises(UsageError, match="column 'prompt'"):
        make(tmp_path, lambda text, number: "a", [{"promt": "x"}], method="solve")
    with pytest.raises(UsageError, match="did you mean 'textbook'"):
        SynthesisConfig.parse({"method": "textbok"})


def test_a_finished_run_asks_nothing_and_a_half_character_is_replaced(tmp_path: Path) -> None:
    seeds = [{"topic": "a"}]
    first, writer = make(tmp_path, lambda text, number: "half \ud83d", seeds, method="textbook", rows=1, batch=1)
    assert rows_of(first)[0]["text"] == "half ?" and len(writer.asked) == 1
    again, idle = make(tmp_path, lambda text, number: "b", seeds, method="textbook", rows=1, batch=1)
    assert again.path == first.path and not idle.asked


def test_every_method_is_named_with_its_paper() -> None:
    assert {"self_instruct", "evol_instruct", "textbook", "backtranslation", "solve"} == set(METHODS)
    assert all(entry.summary and entry.paper for entry in METHODS.describe())


def test_stopped_by_hand_it_goes_on_where_it_was(tmp_path: Path) -> None:
    def stopped(text: str, number: int) -> str:
        if number == 5:
            raise KeyboardInterrupt
        return f"Passage {number} {'x y z ' * number}"

    settings: dict[str, Any] = {"method": "textbook", "rows": 6, "batch": 3, "novelty": None}
    with pytest.raises(Interrupted, match="every reply so far is kept"):
        make(tmp_path, stopped, [{"topic": "a"}], **settings)
    artifact, writer = make(
        tmp_path, lambda text, number: f"Again {'u v w ' * (number + 1)}", [{"topic": "a"}], **settings
    )
    texts = [row["text"].split()[0] for row in rows_of(artifact)]
    assert texts[:5] == ["Passage"] * 5 and texts[5] == "Again" and len(writer.asked) == 1
