from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanok.core.artifact import Artifact
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.data.origins import Origins
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.tokens import TokensConfig, tokens_stage
from hanok.text.data.shard import Shards
from hanok.text.tokenizer import Tokenizer

Clean = Callable[..., Artifact]


def prepare(documents: Path, root: Path, workers: int = 1, **options: Any) -> Artifact:
    config = TokensConfig.parse({"vocab_size": 300, "valid_share": 0.2, **options}).pin()
    stage = tokens_stage(ENGINES["local"](workers))
    return run_stage(stage, config, {"documents": documents}, root, log=Log(quiet=True))


@pytest.fixture
def cleaned(clean: Clean, settings: PipelineConfig, tmp_path: Path) -> Artifact:
    return clean(settings.model_copy(update={"minhash": None, "decontaminate": None, "source": ""}), tmp_path / "docs")


def texts(folder: Path, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in Shards(folder).documents()]


def test_shards_hold_every_document_once_beside_its_origin(cleaned: Artifact, tmp_path: Path) -> None:
    artifact = prepare(cleaned.path, tmp_path / "out")
    lines = [line for file in (cleaned.path / "documents").iterdir() for line in file.read_text("utf-8").split("\n")]
    rows = {row["id"]: row for row in map(json.loads, filter(None, lines))}
    tokenizer = Tokenizer.load(artifact.path)
    seen: dict[str, str] = {}
    for split in ("train", "valid"):
        shards = Shards(artifact.path / split)
        origins = list(Origins(artifact.path / split, shards.index["documents"]).records())
        here = dict(zip([origin["id"] for origin in origins], texts(artifact.path / split, tokenizer), strict=True))
        assert len(here) == len(origins) and not seen.keys() & here.keys()
        seen |= here
        assert all(origin.get("url") == rows[origin["id"]].get("metadata", {}).get("url") for origin in origins)
        assert shards.num_bytes == sum(len(rows[id]["text"].encode()) for id in here)
        assert len(shards.index["origins_sha256"]) == 64 and [*here] != sorted(here), "in an order of its own"
    assert seen == {id: row["text"] for id, row in rows.items()}
    metrics = artifact.metrics
    assert metrics["valid_documents"] > 5 and metrics["train_documents"] > 60 and metrics["vocab_size"] == 300
    assert metrics["corpus_bytes"] == cleaned.metrics["bytes"]


def test_the_cut_of_the_documents_changes_no_shard(
    clean: Clean, settings: PipelineConfig, cleaned: Artifact, tmp_path: Path
) -> None:
    plain = {"minhash": None, "decontaminate": None, "source": "", "unit_bytes": 1 << 30}
    whole = clean(settings.model_copy(update=plain), tmp_path / "whole")
    one, other = prepare(cleaned.path, tmp_path / "a"), prepare(whole.path, tmp_path / "b")
    for name in ("train/00000.bin", "valid/00000.bin", "train/origins.jsonl", "tokenizer.json", "train/index.json"):
        assert one.files[name] == other.files[name], name


def test_few_documents_are_split_by_passages_and_one_is_always_held_out(clean: Clean, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join(f"Sentence number {i} of a long text." for i in range(200)))
    config = PipelineConfig(paths=(str(tmp_path / "long.txt"),), filters=()).pin()
    documents = clean(config, tmp_path / "docs").path
    artifact = prepare(documents, tmp_path / "out", passage_chars=200, valid_share=0.001)
    assert artifact.metrics["valid_documents"] == 1 and artifact.metrics["train_documents"] > 20
    ids = [origin["id"] for origin in Origins(artifact.path / "valid", 1).records()]
    assert ids[0].startswith("long.txt#")
    (tmp_path / "short.txt").write_text("One sentence.")
    config = PipelineConfig(paths=(str(tmp_path / "short.txt"),), filters=()).pin()
    with pytest.raises(UsageError, match="too small to split"):
        prepare(clean(config, tmp_path / "docs").path, tmp_path / "out")


def test_a_tokenizer_that_exists_is_used_and_pinned(cleaned: Artifact, tmp_path: Path) -> None:
    first = prepare(cleaned.path, tmp_path / "out")
    again = prepare(cleaned.path, tmp_path / "out", tokenizer_from=str(first.path))
    assert again.path != first.path and again.files["train/00000.bin"] == first.files["train/00000.bin"]
    assert again.config["tokenizer_sha256"]


def test_a_sample_for_the_tokenizer_is_part_of_the_training_split(
    cleaned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[str] = []
    train = Tokenizer.train

    def spy(read: Any, **options: Any) -> Tokenizer:
        learned.extend(read)
        return train(learned, **options)

    monkeypatch.setattr(Tokenizer, "train", spy)
    artifact = prepare(cleaned.path, tmp_path / "out", tokenizer_bytes=cleaned.metrics["bytes"] // 3)
    held = set(texts(artifact.path / "valid", Tokenizer.load(artifact.path)))
    trained = set(texts(artifact.path / "train", Tokenizer.load(artifact.path)))
    assert set(learned) < trained and not set(learned) & held and len(learned) > 5
