from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanok.core.artifact import Artifact
from hanok.core.errors import HanokError, UsageError
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.funnel import Funnel, rows

Clean = Callable[..., Artifact]


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def documents(artifact: Artifact) -> list[dict[str, Any]]:
    return [row for file in sorted((artifact.path / "documents").iterdir()) for row in read_rows(file)]


def test_every_document_is_kept_or_named_with_its_reason(
    clean: Clean, settings: PipelineConfig, corpus: Path, tmp_path: Path
) -> None:
    artifact = clean(settings, tmp_path / "out")
    kept, dropped = documents(artifact), read_rows(artifact.path / "dropped.jsonl")
    files = ("a.jsonl", "b.jsonl.gz", "c.jsonl")
    texts = {f"corpus/{name}:{n}": row["text"] for name in files for n, row in _read(corpus / name)}
    ids = [row["id"] for row in kept + dropped]
    assert sorted(ids) == sorted([*texts, "corpus/d.txt"]), "no document is lost, and none is there twice"
    ends = Counter((row["step"], row["reason"]) for row in dropped)
    assert ends == {
        ("read", "empty"): 1,
        ("gopher_quality", "too few words"): 1,
        ("exact", "copy"): 8,
        ("minhash", "near copy"): 8,
        ("decontaminate", "evaluation item"): 8,
    }
    for row in dropped:
        if row["step"] == "exact":
            assert texts[row["of"]].split() == texts[row["id"]].split()
            assert ids.index(row["of"]) != ids.index(row["id"]) and row["of"] in texts
        if row["step"] == "decontaminate":
            assert row["of"] == "eval.jsonl:1"
    mail = next(row["text"] for row in kept if "Write to" in row["text"])
    assert "kim@" not in mail and "<email>" in mail
    korean = next(row for row in kept if row["id"] == "corpus/d.txt")
    assert korean["text"].startswith("기와집\n")
    assert {row["metadata"]["url"] for row in kept if "metadata" in row} >= {f"https://a.kr/{i}" for i in range(30, 90)}


def _read(file: Path) -> list[tuple[int, dict[str, str]]]:
    text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text(encoding="utf-8")
    return [(n, json.loads(line)) for n, line in enumerate(text.split("\n"), 1) if line]


def test_the_funnel_adds_up_and_agrees_with_the_files(clean: Clean, settings: PipelineConfig, tmp_path: Path) -> None:
    artifact = clean(settings, tmp_path / "out")
    kept, dropped = documents(artifact), read_rows(artifact.path / "dropped.jsonl")
    funnel = json.loads((artifact.path / "funnel.json").read_text())
    assert funnel == artifact.metrics["funnel"]
    assert list(funnel) == ["read", "clean", "gopher_quality", "exact", "minhash", "decontaminate", "pii"]
    assert funnel["read"]["documents"] == 118 == len(kept) + len(dropped)
    for step, count in funnel.items():
        of_step = [row for row in dropped if row["step"] == step]
        sizes: dict[str, list[int]] = {}
        for row in of_step:
            total = sizes.setdefault(row["reason"], [0, 0])
            total[:] = total[0] + 1, total[1] + row["bytes"]
        assert count["dropped"] == sizes, step
    assert artifact.metrics["documents"] == len(kept)
    assert artifact.metrics["bytes"] == sum(len(row["text"].encode()) for row in kept)
    through = list(rows(funnel))
    assert through[-1][3] == len(kept) and [row[3] for row in through[:-1]] == [row[1] for row in through[1:]]
    assert funnel["pii"]["changes"] == {"email": 1} and funnel["clean"]["changes"]["trailing"] > 0


def test_a_funnel_that_does_not_add_up_is_refused() -> None:
    funnel = Funnel(["one", "two"])
    funnel.enter("read", 10)
    funnel.enter("one", 10)
    funnel.drop("one", "bad", 10)
    funnel.check()
    funnel.enter("two", 10)
    with pytest.raises(HanokError, match="'one', \\(1, 10\\) reach 'two'"):
        funnel.check()


def test_the_same_documents_come_out_however_the_work_is_cut(
    clean: Clean, settings: PipelineConfig, tmp_path: Path
) -> None:
    whole = clean(settings.model_copy(update={"unit_bytes": 1 << 30}), tmp_path / "whole")
    for size in (1, 5_000):
        cut = clean(settings.model_copy(update={"unit_bytes": size}), tmp_path / "cut")
        assert documents(cut) == documents(whole)
        assert (cut.path / "dropped.jsonl").read_bytes() == (whole.path / "dropped.jsonl").read_bytes()
        assert (cut.path / "funnel.json").read_bytes() == (whole.path / "funnel.json").read_bytes()
    assert len(list((cut.path / "documents").iterdir())) > 1 == len(list((whole.path / "documents").iterdir()))


def test_processes_change_no_byte(clean: Clean, settings: PipelineConfig, tmp_path: Path) -> None:
    quick = settings.model_copy(update={"minhash": None, "decontaminate": None, "filters": (), "source": ""})
    one = clean(quick, tmp_path / "one")
    many = clean(quick, tmp_path / "many", ENGINES["local"](2))
    assert one.files == many.files and one.path.name == many.path.name and one.digest == many.digest
    assert not [file for file in one.path.rglob("*") if "checkpoints" in str(file) or file.name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
@pytest.mark.parametrize(("engine", "workers"), [("local", 3), ("ray", 2)])
def test_no_engine_changes_a_byte(
    clean: Clean, settings: PipelineConfig, tmp_path: Path, engine: str, workers: int
) -> None:
    pytest.importorskip("ray") if engine == "ray" else None
    one = clean(settings, tmp_path / "one")
    other = clean(settings, tmp_path / "other", ENGINES[engine](workers))
    assert one.files == other.files and one.digest == other.digest
    for file in one.files:
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes()


def test_a_step_that_is_left_out_does_nothing(
    clean: Clean, settings: PipelineConfig, leak: str, tmp_path: Path
) -> None:
    nothing: dict[str, Any] = {
        "clean": None,
        "filters": [],
        "exact": None,
        "minhash": None,
        "pii": None,
        "decontaminate": None,
    }
    artifact = clean(PipelineConfig.parse({**settings.to_dict(), **nothing, "source": ""}).pin(), tmp_path / "out")
    kept = documents(artifact)
    assert len(kept) == 117 and list(artifact.metrics["funnel"]) == ["read"]
    assert sum(leak.split()[0].upper() in row["text"] for row in kept) == 8
    assert not (artifact.path / "evaluation_items.json").exists()


def test_changed_input_makes_another_artifact_and_a_pinned_one_is_refused(
    clean: Clean, settings: PipelineConfig, corpus: Path, tmp_path: Path
) -> None:
    first = clean(settings, tmp_path / "out")
    with (corpus / "c.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    assert clean(settings, tmp_path / "out").created == first.created, "a finished stage is a no-op"
    assert settings.pin().source != settings.source
    with pytest.raises(UsageError, match="have changed"):
        clean(settings, tmp_path / "other")
    (tmp_path / "eval.jsonl").write_text('{"question": "another question that nobody has ever asked before in here"}\n')
    assert settings.pin().source != settings.source


def test_two_filters_of_a_kind_have_two_places_in_the_funnel(
    clean: Clean, settings: PipelineConfig, tmp_path: Path
) -> None:
    filters = [{"kind": "length", "min_words": 5}, {"kind": "length", "min_words": 130}]
    config = PipelineConfig.parse({**settings.to_dict(), "filters": filters})
    funnel = clean(config, tmp_path / "out").metrics["funnel"]
    assert funnel["length"]["dropped"]["too few words"][0] == 1 < funnel["length-2"]["dropped"]["too few words"][0]
