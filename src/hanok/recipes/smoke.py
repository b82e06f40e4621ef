"""The server under test: the official client talks to the final model over HTTP, and the answers are timed."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.errors import HanokError, require
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.serve import Server
from hanok.text.task.sets import read_items


class SmokeConfig(Config):
    """Where to listen (the next free port if it is taken) and how many clients talk at once."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    clients: int = Field(default=8, ge=1)
    max_tokens: int = Field(default=24, ge=1)


def smoke(config: SmokeConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Serve the model, ask it with the `openai` client, and write serve.json."""
    openai = require("openai", extra="client")
    questions = [item.prompt for item in read_items(inputs["tasks"] / "valid.jsonl")][:32]
    with Server(inputs["model"], host=config.host, port=config.port) as server:
        client = openai.OpenAI(base_url=server.api_url, api_key="unused", max_retries=0)
        model = client.models.list().data[0].id
        log.progress(f"serve: {server.url} answers as {model}")
        whole = client.chat.completions.create(
            model=model, messages=[_user(questions[0])], max_tokens=config.max_tokens, temperature=0
        )
        samples = [_stream(client, model, question, config.max_tokens) for question in questions[:8]]
        if samples[0]["text"] != whole.choices[0].message.content:
            raise HanokError(f"streamed and whole answers differ: {samples[0]['text']!r} and {whole.choices[0]!r}")
        seconds, tokens = _together(client, model, questions, config)
    facts = {
        "url": server.url,
        "ttft_ms": 1000 * statistics.median(sample["ttft"] for sample in samples),
        "tokens_per_second": statistics.median(sample["tokens"] / sample["seconds"] for sample in samples),
        "clients": config.clients,
        "clients_tokens_per_second": tokens / seconds,
    }
    record = {**facts, "samples": [{"prompt": q, **s} for q, s in zip(questions, samples, strict=False)]}
    atomic_write(out / "serve.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return facts


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _stream(client: Any, model: str, question: str, max_tokens: int) -> dict[str, Any]:
    """Stream one answer, and time its first piece and its end."""
    started, first, pieces, tokens = time.perf_counter(), None, [], 0
    stream = client.chat.completions.create(
        model=model,
        messages=[_user(question)],
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter()
            pieces.append(chunk.choices[0].delta.content)
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    ended = time.perf_counter()
    return {"text": "".join(pieces), "tokens": tokens, "ttft": (first or ended) - started, "seconds": ended - started}


def _together(client: Any, model: str, questions: Sequence[str], config: SmokeConfig) -> tuple[float, int]:
    """Ask from several threads at once; return the wall time and the tokens of all answers."""
    counts: list[int] = []
    started = time.perf_counter()

    def ask(share: Sequence[str]) -> None:
        counts.extend(int(_stream(client, model, question, config.max_tokens)["tokens"]) for question in share)

    threads = [threading.Thread(target=ask, args=(questions[i :: config.clients],)) for i in range(config.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) != len(questions):
        raise HanokError(f"only {len(counts)} of {len(questions)} simultaneous requests were answered")
    return time.perf_counter() - started, sum(counts)


SMOKE = Stage("serve", "serve", SmokeConfig, smoke, {"model": "model", "tasks": "tasks"})
