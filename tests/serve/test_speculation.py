"""An engine that guesses ahead serves the same streams: fewer chunks, the same text, tokens and log-probs in all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server

from .wire import send

CHAT = {"messages": [{"role": "user", "content": "한옥이 뭐야?"}], "logprobs": True, "top_logprobs": 2}
TEXT = {"prompt": "What is a hanok?", "logprobs": 2, "ignore_eos": True}


def streamed(server: Server, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks of a streamed answer."""
    status, _, data = send(server.url, path, {**body, "max_tokens": 40, "temperature": 0, "stream": True})
    assert status == 200, data
    lines = [line.removeprefix("data: ") for line in data.decode().splitlines() if line.startswith("data: ")]
    return [chunk for line in lines if line != "[DONE]" for chunk in json.loads(line)["choices"]]


def whole(path: str, chunks: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Return what the chunks of one answer make together."""
    parts = [chunk["logprobs"] for chunk in chunks if chunk.get("logprobs")]
    reason = [chunk["finish_reason"] for chunk in chunks if chunk["finish_reason"]]
    if "chat" in path:
        text = "".join(chunk["delta"].get("content") or "" for chunk in chunks)
        return text, [entry for part in parts for entry in part["content"]], reason
    fields = [[item for part in parts for item in part[name]] for name in ("tokens", "token_logprobs", "text_offset")]
    return "".join(chunk["text"] for chunk in chunks), fields, reason


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)])
def test_streams_are_the_same(llm: LLM, tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    llm.save(tmp_path / "same")
    found = []
    for spec in (None, {"kind": "draft", "model": str(tmp_path / "same"), "tokens": 3}):
        engine = {"speculation": spec, "numerics": "exact"}
        with Server(llm, port=0, engine=engine) as server:
            found.append(streamed(server, path, body))
    plain, guessed = found
    assert whole(path, guessed) == whole(path, plain)
    assert len(guessed) < len(plain)
