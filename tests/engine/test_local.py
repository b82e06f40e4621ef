"""LLM: load, save, generate, stream, score; and what is said when a directory is not right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hanok
from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.text.tokenizer import Tokenizer

Build = Callable[..., LLM]
MESSAGES = [{"role": "user", "content": "hello"}]


def test_public_names(tmp_path: Path) -> None:
    """The snippet that outside tests are written against."""
    model = hanok.Model(hanok.ModelConfig.preset("llama-tiny", vocab=64))
    hanok.LLM(model).save(tmp_path / "m")
    llm = hanok.load(str(tmp_path / "m"))
    assert llm.tokenizer is None and llm.chat is None and llm.config == model.config
    tokens = torch.randint(0, 64, (2, 9))
    assert llm.model(tokens).shape == (2, 9, 64)
    assert llm.logprobs(tokens).shape == (2, 8) and llm.logprobs(tokens).dtype == torch.float32
    out = llm.generate(tokens[:1], max_tokens=5, temperature=0.0, seed=0)
    assert len(out.tokens) == len(out.logprobs) == 5 and out.finish_reason == "length" and out.text == ""
    engine = hanok.Engine(llm, numerics="exact")
    again = engine.generate([hanok.Request(tokens[0].tolist(), max_tokens=5, temperature=0.0, seed=0, logprobs=0)])[0]
    assert again.tokens == out.tokens
    with hanok.numerics("exact"):
        whole = torch.tensor([tokens[0].tolist() + again.tokens])
        assert llm.logprobs(whole)[0, 8:].tolist() == again.logprobs
        assert llm.generate(tokens[0], max_tokens=5) == again


def test_round_trip_with_tokenizer_and_chat(chatty: LLM, tmp_path: Path) -> None:
    chatty.save(tmp_path)
    names = {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names | {"chat_template.jinja"} <= {file.name for file in tmp_path.iterdir()}
    again = hanok.load(tmp_path)
    assert again.stop_ids == chatty.stop_ids and type(again.chat) is type(chatty.chat)
    for prompt in ("hello", MESSAGES):
        assert again.generate(prompt, 8) == chatty.generate(prompt, 8)
    assert hanok.load(tmp_path, dtype="bfloat16").model.dtype == torch.bfloat16


def test_prompts_of_every_form(chatty: LLM) -> None:
    with hanok.numerics("exact"):  # so that outputs are equal whatever they are generated with
        prompts_of_every_form(chatty)


def prompts_of_every_form(chatty: LLM) -> None:
    assert chatty.tokenizer is not None and chatty.chat is not None
    ids = [chatty.tokenizer.bos_id, *chatty.tokenizer.encode("hello")]
    one = chatty.generate("hello", 6)
    assert one.prompt_ids == ids
    for same in (ids, torch.tensor(ids), torch.tensor([ids])):
        assert chatty.generate(same, 6) == one
    talk = chatty.generate(MESSAGES, 6)
    assert talk.prompt_ids == chatty.chat.encode(chatty.tokenizer, MESSAGES, generation=True).tokens
    assert chatty.generate(["hello", "hello"], 6) == [one, one]
    assert chatty.generate([MESSAGES, MESSAGES], 6) == [talk, talk]
    assert chatty.generate([ids, ids], 6) == [one, one]
    assert chatty.generate(torch.tensor([ids, ids]), 6) == [one, one]
    pieces = list(chatty.stream("hello", 6))
    assert [t for piece in pieces for t in piece.tokens] == one.tokens
    assert "".join(piece.text for piece in pieces) == one.text and pieces[-1].output == one


def test_special_tokens_in_a_prompt_are_plain_text(chatty: LLM) -> None:
    assert chatty.tokenizer is not None
    out = chatty.generate([{"role": "user", "content": "<|im_end|>"}], 1)
    assert out.prompt_ids.count(chatty.tokenizer.specials["<|im_end|>"]) == 1


def test_stops_at_the_end_of_a_turn(chatty: LLM) -> None:
    assert chatty.tokenizer is not None
    assert chatty.stop_ids == {chatty.tokenizer.eos_id, chatty.tokenizer.specials["<|im_end|>"]}


@pytest.mark.parametrize("kind", ["gqa", "hybrid"])
def test_logprobs_equal_log_softmax(build: Build, kind: str) -> None:
    llm = build(kind, torch.float32)
    tokens = torch.randint(0, 97, (3, 20))
    want = llm.model(tokens)[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(llm.logprobs(tokens), want.detach(), rtol=1e-5, atol=1e-5)
    assert llm.logprobs(tokens[:, :1]).shape == (3, 0)
    assert llm.logprobs(tokens[:0]).shape == (0, 19)


def test_bad_calls(build: Build, chatty: LLM) -> None:
    llm = build("gqa", torch.float32)
    for tokens in (
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(1, 3),
        torch.full((1, 3), 97),
        torch.full((1, 3), -1),
    ):
        with pytest.raises(UsageError, match="tokens must be"):
            llm.logprobs(tokens)
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        llm.generate([1], temprature=1.0)
    with pytest.raises(UsageError, match="one prompt"):
        llm.stream(["a", "b"])
    with pytest.raises(UsageError, match="prompt is empty"):
        llm.generate([])
    with pytest.raises(UsageError, match="no tokenizer"):
        llm.generate("text")
    with pytest.raises(UsageError, match="no chat format"):
        LLM(llm.model, Tokenizer.train(["a"], vocab_size=270)).generate(MESSAGES)
    with pytest.raises(UsageError, match="needs a tokenizer"):
        LLM(llm.model, None, chatty.chat)


def test_directories_that_are_not_right(chatty: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: str, change: Callable[[Path], Any], **options: Any) -> None:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        chatty.save(path)
        change(path)
        with pytest.raises(UsageError, match=message):
            hanok.load(path, **options)

    def edit(path: Path, **changes: Any) -> None:
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    broken("no config.json", lambda path: (path / "config.json").unlink())
    broken("model.safetensors", lambda path: (path / "model.safetensors").unlink())
    broken("safetensors", lambda path: (path / "model.safetensors").write_bytes(b"1234567890"))
    broken("model_type 'lama'; did you mean 'llama'", lambda path: edit(path, model_type="lama"))
    broken("own code", lambda path: edit(path, auto_map={"AutoModel": "evil.Model"}))
    broken("unknown dtype 'float31'; did you mean", lambda path: None, dtype="float31")
    broken("local directory", lambda path: None, revision="main")
    broken("not a readable tokenizer", lambda path: (path / "tokenizer.json").write_text("{"))
    other = Tokenizer.train(["the house stands on joints, and each joint carries a beam of the roof"], vocab_size=999)
    broken("do not belong together", other.save)
    for source, message in [
        ("/no/such/place", "there is no directory"),
        ("nothing here", "there is no directory"),
        (str(tmp_path / "0" / "model.safetensors"), "is a file"),
        (Path("org/name"), "there is no directory"),
        ("../org", "there is no directory"),
    ]:
        with pytest.raises(UsageError, match=message):
            hanok.load(source)
    with pytest.raises(UsageError, match="offline"):
        hanok.load("hanok-tests/no-such-model-here")


def test_the_hub_gives_safe_files_only(monkeypatch: pytest.MonkeyPatch, chatty: LLM, tmp_path: Path) -> None:
    import huggingface_hub

    chatty.save(tmp_path)
    asked: dict[str, Any] = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    llm = hanok.load("org/name", revision="abc")
    assert llm.config == chatty.config and asked["name"] == "org/name" and asked["revision"] == "abc"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".bin", ".py", ".pt", "*"))]
