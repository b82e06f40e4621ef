import json

import pytest

from hanok.core.errors import QualityGateError, UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.eval.generate import Question, answer_questions, questions_of, read_questions, summarise
from hanok.eval.stages import EvalConfig, check_bars, first_of_each, held_out_texts, stage_for
from hanok.ops.numerics import numerics
from hanok.text.data.shard import write_shards
from hanok.text.task import TASKS, make_task
from hanok.text.task.sets import TaskSetsConfig, run_task_sets

QUIET = Log(None, quiet=True)


def ask(prompt, answer="", task="exact"):
    return Question(prompt, answer, task, 0.0)


PROMPTS = ["3 + 4 =", "reverse: a b c", "사과 + (은/는)", "a" * 30, "copy this, please", "x"]


def test_answers_are_the_models_own_greedy_ones_one_at_a_time(llm):
    samples = answer_questions(llm, [ask(prompt) for prompt in PROMPTS], max_tokens=8)["exact"]
    with numerics("exact"):
        for prompt, sample in zip(PROMPTS, samples, strict=True):
            alone = llm.generate([{"role": "user", "content": prompt}], max_tokens=8)
            assert (sample.completion, sample.tokens) == (alone.text, len(alone.tokens))
            assert sample.prompt == prompt


def test_a_model_that_is_right_gets_one_and_a_wrong_one_zero(llm):
    said = answer_questions(llm, [ask(prompt) for prompt in PROMPTS], max_tokens=6)["exact"]
    right = [ask(s.prompt, s.completion) for s in said]
    wrong = [ask(s.prompt, s.completion + "?") for s in said]
    for questions, expected in ((right, 1.0), (wrong, 0.0)):
        (figure,) = summarise(answer_questions(llm, questions, max_tokens=6), questions)
        assert figure.value == expected and figure.n == len(PROMPTS)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_scores_its_own_answers(name):
    task = make_task(name)
    for question in questions_of(task.items("held_out", 5, 0), task):
        assert 0 <= question.chance < 1 and question.task == name


def test_task_files(tmp_path):
    file = tmp_path / "held_out.jsonl"
    rows = [{"prompt": "3 + 4 =", "answer": "7", "task": "addition"}, {"prompt": "말", "answer": "x", "chance": 0.25}]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    rows.append(
        {
            "prompt": [{"role": "user", "content": c} for c in ("hello", "5 + 5 =")],
            "answer": "10",
            "task": "addition",
            "key": "5+5",
        }
    )
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    first, second, third = read_questions(file)
    assert third.prompt == "5 + 5 =" and [m["content"] for m in third.messages()] == ["hello", "5 + 5 ="]
    assert first.chance == make_task("addition").chance and (second.task, second.chance) == ("exact", 0.25)
    for row, says in [
        ({"prompt": "3", "anwer": "7"}, "'answer'; did you mean 'anwer'"),
        ({"prompt": "3", "answer": "7", "task": "aditon"}, "unknown task 'aditon'; did you mean 'addition'"),
        ({"prompt": "3", "answer": "7", "chance": 2}, "from 0 to 1"),
    ]:
        file.write_text(json.dumps(row))
        with pytest.raises(UsageError, match=says):
            read_questions(file)


def test_limit_is_per_task():
    questions = [ask("a", task="x"), ask("b", task="x"), ask("c", task="y"), ask("d", task="x")]
    assert [q.prompt for q in first_of_each(questions, 1)] == ["a", "c"]


@pytest.fixture
def inputs(llm, texts, tmp_path):
    """A model directory, prepared tokens, and a file of questions."""
    llm.save(tmp_path / "model")
    tokenizer = llm.tokenizer
    tokenizer.save(tmp_path / "data")
    for split in ("train", "valid"):
        documents = [tokenizer.encode_document(text) for text in texts]
        write_shards(tmp_path / "data" / split, documents, vocab_size=tokenizer.vocab_size)
    sets = TaskSetsConfig(tasks=("addition", "josa"), conversations=2, preferences=2, prompts=2, valid=2, held_out=4)
    (tmp_path / "tasks").mkdir()
    run_task_sets(sets, {}, tmp_path / "tasks", QUIET)
    return {"model": tmp_path / "model", "tasks": tmp_path / "tasks", "tokens": tmp_path / "data"}


def test_the_stage(inputs, tmp_path, texts):
    config = EvalConfig(label="base", baselines=("uniform", "gzip", "ngram"), max_tokens=4)
    artifact = run_stage(stage_for(inputs), config, inputs, tmp_path / "runs", log=QUIET)
    assert artifact.kind == "scores"
    results = json.loads((artifact.path / "results.json").read_text())
    figures = artifact.metrics
    assert results["text"]["numerics"] == "exact" and results["text"]["documents"] == len(texts)
    assert figures["baseline/uniform"] == 8.0
    # The n-gram has seen these very texts, gzip has seen none, the model is untrained.
    assert figures["baseline/ngram"] < 1.5 < figures["baseline/gzip"] < figures["bits_per_byte"]
    assert set(results["tasks"]) == {"addition", "josa"} and results["tasks"]["josa"]["n"] == 4
    assert results["tasks"]["josa"]["chance"] == 0.5
    samples = [json.loads(line) for line in (artifact.path / "samples_josa.jsonl").read_text().splitlines()]
    assert len(samples) == 4 and set(samples[0]) >= {"prompt", "answer", "completion", "score"}
    assert "|josa" in (artifact.path / "table.md").read_text()
    assert run_stage(stage_for(inputs), config, inputs, tmp_path / "runs", log=QUIET).path == artifact.path


def test_the_stage_with_one_kind_of_input(inputs, tmp_path):
    few = {"model": inputs["model"], "tokens": inputs["tokens"]}
    artifact = run_stage(stage_for(few), EvalConfig(), few, tmp_path / "runs", log=QUIET)
    assert "bits_per_byte" in artifact.metrics and "acc/mean" not in artifact.metrics
    with pytest.raises(UsageError, match="something to measure with"):
        stage_for({"model": inputs["model"]})
    text = tmp_path / "text.txt"
    text.write_text("Some text of the user's own.\n")
    plain = {"model": inputs["model"], "tokens": text}
    with pytest.raises(UsageError, match="needs training tokens"):
        run_stage(stage_for(plain), EvalConfig(baselines=("ngram",)), plain, tmp_path / "runs", log=QUIET)


def test_held_out_texts_are_what_was_written(inputs, texts):
    assert held_out_texts(inputs["tokens"]) == list(texts)
    assert held_out_texts(inputs["tokens"], max_bytes=1) == texts[:1]


def test_quality_gate():
    figures = {"acc/addition": 0.8, "bits_per_byte": 2.0}
    check_bars(figures, {"addition": 0.8, "bits_per_byte": 2.0})
    with pytest.raises(QualityGateError, match=r"acc/addition is 0.8000, below the bar of 0.9") as caught:
        check_bars(figures, {"acc/addition": 0.9})
    assert caught.value.exit_code == 3
    with pytest.raises(QualityGateError, match=r"above the bar of 1\.9"):
        check_bars(figures, {"bits_per_byte": 1.9})
    with pytest.raises(UsageError, match="did you mean 'acc/addition'"):
        check_bars(figures, {"acc/additon": 0.9})
