from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanok.core.artifact import Artifact
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.chat import load_chat
from hanok.text.chat.chatml import ChatML
from hanok.text.data.prepare import DataConfig
from hanok.text.data.read import read_conversations, read_preferences
from hanok.text.data.shard import Shards
from hanok.text.data.stream import TokenStream
from hanok.text.show import show
from hanok.text.stages import DATA, TASK_SETS
from hanok.text.task.sets import TaskSetsConfig, read_items, read_tasks
from hanok.text.tokenizer import Tokenizer

SMALL = {"vocab_size": 300, "task_items": 20, "tokenizer_items": 20, "passage_chars": 200}


def run(tmp_path: Path, **options: object) -> Artifact:
    config = DataConfig.parse({**SMALL, **options}).pin()
    return run_stage(DATA, config, {}, tmp_path / "out", log=Log(quiet=True))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [
        f"Sentence number {i} is about the {['roof', 'floor', 'joint', 'beam'][i % 4]} of a house." for i in range(300)
    ]
    (folder / "a.txt").write_text("\n".join(lines))
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a 1"}]
    (folder / "b.jsonl").write_text(
        "".join(json.dumps({"messages": [*talk, {"role": "user", "content": str(i)}]}) + "\n" for i in range(30))
    )
    return folder


def test_data_makes_a_tokenizer_and_shards_of_disjoint_splits(files: Path, tmp_path: Path) -> None:
    artifact = run(tmp_path, paths=[str(files)], valid_share=0.2)
    tokenizer = Tokenizer.load(artifact.path)
    assert isinstance(load_chat(artifact.path, tokenizer), ChatML) and artifact.kind == "tokens"
    train, valid = Shards(artifact.path / "train"), Shards(artifact.path / "valid")
    texts = [{tokenizer.decode(ids, skip_special=False) for ids in shards.documents()} for shards in (train, valid)]
    assert texts[0] and texts[1] and not texts[0] & texts[1]
    metrics = artifact.metrics
    assert metrics["train_tokens"] == len(train) and metrics["valid_bytes"] == valid.num_bytes
    assert metrics["task_items"] == 100 and metrics["vocab_size"] == 300 and metrics["nfd_ratio"] == 1
    bos = [int(document[0]) for document in valid.documents()]
    assert set(bos) == {tokenizer.bos_id} and sum(text.count("<|im_start|>") for text in texts[0]) > 100
    plain = sum(len(ids) for document in valid.documents() if (ids := tokenizer.decode(document).encode()))
    assert 0 <= plain - valid.num_bytes < 40 * 30  # the rest is roles and line breaks of conversations
    assert TokenStream(train, length=32, batch=2).next_batch().tokens.max() < 300
    assert json.loads((artifact.path / "meta.json").read_text())["corpus_sha256"] == metrics["corpus_sha256"]


def test_the_share_of_tasks_is_the_share_that_was_asked_for(files: Path, tmp_path: Path) -> None:
    artifact = run(tmp_path, paths=[str(files)], task_items=None, task_share=0.4)
    assert artifact.metrics["task_share"] == pytest.approx(0.4, abs=0.05)
    assert run(tmp_path, paths=[str(files)], tasks=[]).metrics["task_items"] == 0
    assert run(tmp_path, paths=[str(files / "a.txt")], max_bytes=5000).metrics["corpus_bytes"] <= 5000
    with pytest.raises(UsageError, match="task_items or task_share, not both"):
        DataConfig.parse({"task_items": 3, "task_share": 0.1})


def test_changed_files_make_a_new_artifact(files: Path, tmp_path: Path) -> None:
    first = run(tmp_path, paths=[str(files / "a.txt")])
    again = run(tmp_path, paths=[str(files / "a.txt")])
    assert first.path == again.path and first.created == again.created
    old = DataConfig.parse({**SMALL, "paths": [str(files / "a.txt")]}).pin()
    with (files / "a.txt").open("a") as file:
        file.write("\nOne more sentence that makes the corpus another one, long enough to count as a passage.")
    assert run(tmp_path, paths=[str(files / "a.txt")]).path != first.path
    with pytest.raises(UsageError, match="have changed"):
        run_stage(DATA, old.model_copy(update={"seed": 9}), {}, tmp_path / "out", log=Log(quiet=True))


def test_the_same_configuration_gives_the_same_bytes(files: Path, tmp_path: Path) -> None:
    one, two = run(tmp_path / "1", paths=[str(files)]), run(tmp_path / "2", paths=[str(files)])
    assert one.files == two.files


def test_many_documents_are_split_whole_and_one_is_split_by_passages(tmp_path: Path) -> None:
    for count in (60, 1):
        file = tmp_path / f"{count}.jsonl"
        texts = [" ".join(f"w{i}x{j}" for j in range(6000 // count)) for i in range(count)]
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        artifact = run(tmp_path, paths=[str(file)], tasks=[], valid_share=0.2)
        tokenizer = Tokenizer.load(artifact.path)
        owners = [
            {tokenizer.decode(ids).split("x")[0] for ids in Shards(artifact.path / split).documents()}
            for split in ("train", "valid")
        ]
        assert owners[0] and owners[1] and bool(owners[0] & owners[1]) == (count == 1)


def test_too_little_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(UsageError, match="too small to split: 1 passages"):
        run(tmp_path, paths=[str(tmp_path / "a.txt")])


def test_task_sets_never_show_a_held_out_item(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = TaskSetsConfig(conversations=200, preferences=50, prompts=50, valid=20, held_out=30)
    artifact = run_stage(TASK_SETS, config, {}, tmp_path, log=Log(quiet=True))
    held = {item.prompt for item in read_items(artifact.path / "held_out.jsonl")}
    valid = {item.prompt for item in read_items(artifact.path / "valid.jsonl")}
    prompts = {item.prompt for item in read_items(artifact.path / "prompts.jsonl")}
    talks = read_conversations([artifact.path / "conversations.jsonl"])
    pairs = read_preferences([artifact.path / "preferences.jsonl"])
    trained = {talk[0]["content"] for talk in talks} | {pair["prompt"][0]["content"] for pair in pairs} | prompts
    assert len(held) == 150 and len(valid) == 100 and len(talks) == 1000 and len(pairs) == 250
    assert not held & trained and not valid & trained and not held & valid
    tasks = read_tasks(artifact.path)
    for item in read_items(artifact.path / "held_out.jsonl"):
        assert tasks[item.task].score(item, item.answer) == 1
    assert artifact.metrics["chance/josa"] == 0.5
    with pytest.raises(UsageError, match="line 1: a task item needs"):
        read_items(artifact.path / "conversations.jsonl")
    with pytest.raises(UsageError, match="tasks is empty"):
        run_stage(TASK_SETS, TaskSetsConfig(tasks=()), {}, tmp_path, log=Log(quiet=True))


def test_show_tells_who_wrote_what_and_what_is_learned(tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "1 + 2 ="}, {"role": "assistant", "content": "3"}]
    (shown,) = show([messages], tokenizer, ChatML())
    assert [(piece.text, piece.role, piece.learned) for piece in shown.pieces] == [
        ("<|bos|><|im_start|>user\n", "format", False),
        ("1 + 2 =<|im_end|>", "user", False),
        ("\n<|im_start|>assistant\n", "format", False),
        ("3<|im_end|>", "assistant", True),
        ("\n", "format", False),
    ]
    assert shown.learned == 2 and shown.tokens == len(ChatML().encode(tokenizer, messages))


@pytest.mark.slow
def test_the_python_corpus_end_to_end(tmp_path: Path) -> None:
    artifact = run(tmp_path, vocab_size=1024, task_items=None, tokenizer_items=1000)
    assert artifact.metrics["corpus_bytes"] > 500_000
    assert artifact.metrics["korean_tokens_per_syllable"] < 3.2 and artifact.metrics["english_chars_per_token"] > 2
