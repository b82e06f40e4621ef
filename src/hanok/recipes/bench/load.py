"""`hanok bench serve`: requests against a running OpenAI-compatible server, streamed, at a rate or a concurrency."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hanok.core.errors import HanokError, UsageError
from hanok.recipes.bench.figures import Sample
from hanok.serve.fetch import Address, Answer, Broken, Unreachable, ask

Endpoint = Literal["completions", "chat"]
PATHS: dict[str, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
Clock = Callable[[], float]


@dataclass(frozen=True)
class Target:
    """A running server: its address without `/v1`, the model's name there, and the key."""

    address: Address
    model: str
    endpoint: Endpoint = "completions"
    key: str | None = field(default=None, repr=False)
    timeout: float = 600.0
    ignore_eos: bool = True

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of every request."""
        found = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream")]
        return found + ([(b"authorization", f"Bearer {self.key}".encode())] if self.key else [])


@dataclass(frozen=True)
class Ask:
    """One request: a prompt as text or token ids, how long it is, and how many tokens are wanted."""

    prompt: str | list[int]
    prompt_tokens: int
    output_len: int

    def body(self, target: Target) -> bytes:
        """Return the JSON to send."""
        data: dict[str, Any] = {
            "model": target.model,
            "max_tokens": self.output_len,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if target.ignore_eos:
            data["ignore_eos"] = True
        if target.endpoint == "chat":
            data["messages"] = [{"role": "user", "content": self.prompt}]
        else:
            data["prompt"] = self.prompt
        return json.dumps(data).encode()


def arrivals(count: int, rate: float, burstiness: float, seed: int) -> list[float]:
    """Return when each request is sent, in seconds from the start.

    Gaps are drawn from a gamma distribution of shape `burstiness` and mean 1 / rate: 1 is a Poisson process, less comes
    in bursts, more is more even. An infinite rate sends all at once.
    """
    if not rate > 0 or not burstiness > 0:
        raise UsageError(f"the request rate and burstiness must be above 0, not {rate:g} and {burstiness:g}")
    if np.isinf(rate):
        return [0.0] * count
    gaps = np.random.default_rng(seed).gamma(burstiness, 1 / (rate * burstiness), count)
    times: list[float] = (np.cumsum(gaps) - gaps[:1]).tolist()
    return times


async def fire(
    asks: Sequence[Ask], times: Sequence[float], send: Callable[[Ask], Any], *, most: int | None = None
) -> list[Sample]:
    """Send each request at its time, at most `most` of them under way together, and return what was seen of each."""
    begun = time.perf_counter()
    gate = asyncio.Semaphore(most) if most else contextlib.nullcontext()

    async def one(what: Ask) -> Sample:
        async with gate:
            sample: Sample = await send(what)
            return sample

    tasks = []
    for what, at in zip(asks, times, strict=True):
        late = begun + at - time.perf_counter()
        if late > 0:
            await asyncio.sleep(late)
        tasks.append(asyncio.create_task(one(what)))
    return list(await asyncio.gather(*tasks))


async def request(target: Target, what: Ask, *, clock: Clock = time.perf_counter) -> Sample:
    """Send one request and return what was seen; a failure is part of what was seen."""
    body = what.body(target)
    sample = Sample(clock(), what.prompt_tokens)
    try:
        async with (
            asyncio.timeout(target.timeout),
            ask(target.address, "POST", PATHS[target.endpoint], target.headers(), body) as answer,
        ):
            if answer.status != 200:
                said = (await answer.read(1 << 20)).decode(errors="replace")
                sample.error = f"HTTP {answer.status}: {said[:200]}"
            else:
                await follow(answer, sample, clock)
    except (Broken, Unreachable) as error:
        sample.error = str(error)
    except TimeoutError:
        sample.error = f"no end within {target.timeout:g} s"
    return sample


async def follow(answer: Answer, sample: Sample, clock: Clock) -> None:
    """Take note of every piece of a streamed answer."""
    ended = False
    async for text, now in events(answer.pieces(), clock):
        if text == "[DONE]":
            ended = True
            continue
        try:
            data = json.loads(text)
        except ValueError:
            raise Broken(f"an event is no JSON: {text[:80]!r}") from None
        if data.get("error"):
            sample.error = str(data["error"])[:200]
            return
        if any(_brings(choice) for choice in data.get("choices") or ()):
            sample.arrivals.append(now)
        if data.get("usage"):
            sample.output_tokens = int(data["usage"].get("completion_tokens") or 0)
            sample.prompt_tokens = int(data["usage"].get("prompt_tokens") or sample.prompt_tokens)
    if not ended:
        sample.error = "the stream ended without [DONE]"
    sample.output_tokens = sample.output_tokens or len(sample.arrivals)


async def events(pieces: AsyncIterator[bytes], clock: Clock) -> AsyncIterator[tuple[str, float]]:
    """Yield the data of each server-sent event, and when its last byte came."""
    rest = b""
    async for piece in pieces:
        now = clock()
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            data = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if data:
                yield b"\n".join(data).decode(errors="replace"), now


def _brings(choice: dict[str, Any]) -> bool:
    """Say whether a piece brings tokens: not the role that opens a turn, nor an empty end behind the last token."""
    if "delta" in choice:
        delta = choice["delta"]
        return any(delta.get(name) for name in ("content", "reasoning_content", "reasoning", "tool_calls"))
    return bool(choice.get("text")) or choice.get("finish_reason") is None


async def only_model(address: Address, key: str | None) -> str:
    """Return the name of the model that a server lists first."""
    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
    async with asyncio.timeout(30), ask(address, "GET", "/v1/models", headers) as answer:
        raw = await answer.read()
        try:
            return str(json.loads(raw)["data"][0]["id"])
        except (ValueError, LookupError, TypeError):
            said = raw[:200].decode(errors="replace")
            raise HanokError(f"the server lists no model (HTTP {answer.status}): {said}") from None


def random_asks(count: int, input_len: int, output_len: int, *, vocab: int, endpoint: str, seed: int) -> list[Ask]:
    """Return requests of random tokens, or, for a chat, of random short words of about as many tokens."""
    draw = random.Random(seed)
    asks = []
    for _ in range(count):
        ids = [draw.randrange(min(3, vocab - 1), vocab) for _ in range(input_len)]
        words = " ".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=3)) for _ in ids)
        asks.append(Ask(words if endpoint == "chat" else ids, input_len, output_len))
    return asks


def read_asks(text: str, count: int, output_len: int) -> list[Ask]:
    """Return requests from lines of JSON, `{"prompt": "...", "max_tokens": 64}`, from the top again where they end."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
                rows.append(Ask(row["prompt"], 0, int(row.get("max_tokens", output_len))))
            except (ValueError, LookupError, TypeError):
                raise UsageError(f'line {number} of the prompts is not {{"prompt": ...}}: {line[:80]!r}') from None
    if not rows:
        raise UsageError("the file of prompts is empty")
    return [rows[at % len(rows)] for at in range(count)]
