"""A GGUF file is a model like any other: load, talk, export, inspect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import hanok
from hanok.cli import main
from hanok.engine.local import LLM


def test_round_trip_with_tokenizer_and_chat(chatty: LLM, tmp_path: Path) -> None:
    chatty.export_gguf(tmp_path / "m.gguf", "f32")
    again = hanok.load(tmp_path / "m.gguf")
    assert again.config == chatty.config and again.stop_ids == chatty.stop_ids
    assert again.tokenizer is not None and type(again.chat) is type(chatty.chat)
    for prompt in ("hello", [{"role": "user", "content": "안녕"}]):
        with hanok.numerics("exact"):
            assert again.generate(prompt, 8) == chatty.generate(prompt, 8)


def test_without_a_tokenizer(build: Callable[..., LLM], tmp_path: Path) -> None:
    import torch

    llm = build("gqa", torch.float32)
    llm.export_gguf(tmp_path / "m.gguf", "f16")
    again = hanok.load(tmp_path / "m.gguf", dtype="float32")
    assert again.tokenizer is None and again.generate([1, 2, 3], 4).tokens == llm.generate([1, 2, 3], 4).tokens


def test_export_and_inspect_from_the_command_line(
    chatty: LLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        return int(stopped.value.code or 0), "".join(capsys.readouterr())

    chatty.save(tmp_path / "m")
    file = str(tmp_path / "m.gguf")
    assert run("export", str(tmp_path / "m"), file)[0] == 0
    code, text = run("inspect", file)
    assert code == 0 and "gqa" in text
    assert run("export", file, str(tmp_path / "back"))[0] == 0
    assert hanok.load(tmp_path / "back").config == chatty.config
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(20))
    code, text = run("inspect", str(tmp_path / "bad.gguf"))
    assert code == 2 and "bad.gguf" in text
