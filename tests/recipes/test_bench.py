"""The benchmark's figures from scripted clocks and streams: nothing here depends on how fast a machine is."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.recipes.bench import figures, load, offline, subject
from hanok.recipes.bench.figures import Sample
from hanok.recipes.bench.runner import Hanok, in_turn
from hanok.serve.fetch import Address, Broken, Unreachable, ask

TWO = [
    Sample(0.0, 10, 3, [0.2, 0.3, 0.5]),  # ttft 200 ms, tpot 150 ms, e2el 500 ms
    Sample(1.0, 20, 5, [1.1, 1.5]),  # five tokens in two arrivals: ttft 100, tpot 100, e2el 500
]
TINY = {"vocab": 64, "dim": 32, "depth": 1, "heads": 2, "kv_heads": 1, "context": 64}
DIALS = [f"{name}={value}" for name, value in TINY.items()]


def test_the_figures_of_a_run() -> None:
    found = figures.summary([*TWO, Sample(0.0, 5, error="HTTP 500")], 2.0, slo={"ttft": 150.0})
    assert (found["completed"], found["failed"], found["errors"]) == (2, 1, ["HTTP 500"])
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (30, 8)
    assert (found["request_throughput"], found["output_throughput"], found["total_token_throughput"]) == (1.0, 4.0, 19)
    assert found["mean_ttft_ms"] == pytest.approx(150) and found["p99_ttft_ms"] == pytest.approx(199)
    assert found["mean_tpot_ms"] == pytest.approx(125)
    assert found["median_itl_ms"] == pytest.approx(np.median([100, 200, 400]))
    assert found["mean_e2el_ms"] == pytest.approx(500) and found["std_e2el_ms"] == pytest.approx(0, abs=1e-9)
    assert found["request_goodput"] == 0.5, "only the second came within 150 ms"


def test_a_single_token_has_no_time_per_further_token() -> None:
    one = Sample(0.0, 4, 1, [0.25])
    found = figures.summary([one], 1.0, slo={"tpot": 1.0})
    assert one.tpot is None and "mean_tpot_ms" not in found and found["request_goodput"] == 1.0


def test_a_run_in_which_nothing_was_answered_still_has_figures() -> None:
    found = figures.summary([Sample(0.0, 5, error="no")], 1.0)
    assert found["completed"] == 0 and found["output_throughput"] == 0
    assert any("error: no" in line for line in figures.lines(found))


def test_limits_are_read_or_refused() -> None:
    assert figures.read_slo(["ttft:200", "e2el:1e3"]) == {"ttft": 200.0, "e2el": 1000.0}
    for wrong in ("ttft", "ttft:soon", "itl:5", "tpot:0", "tpot:nan"):
        with pytest.raises(UsageError, match="slo"):
            figures.read_slo([wrong])


def test_arrivals_have_the_rate_and_the_spread_that_were_asked_for() -> None:
    gaps = np.diff(load.arrivals(20001, 50.0, 1.0, seed=0))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03), "a Poisson process"
    assert np.diff(load.arrivals(20001, 50.0, 4.0, seed=0)).std() == pytest.approx(0.5 / 50, rel=0.05)
    assert load.arrivals(3, math.inf, 1.0, seed=0) == [0.0, 0.0, 0.0]
    assert load.arrivals(9, 2.0, 1.0, seed=3) == load.arrivals(9, 2.0, 1.0, seed=3)
    assert load.arrivals(0, 2.0, 1.0, seed=3) == []
    for rate, burstiness in ((0.0, 1.0), (1.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(UsageError):
            load.arrivals(3, rate, burstiness, seed=0)


def test_a_limit_on_concurrency_is_kept_and_nothing_is_left_out() -> None:
    running = most = 0

    async def send(what: load.Ask) -> Sample:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Sample(0.0, what.prompt_tokens, 1, [0.0])

    asks = [load.Ask([1], at, 1) for at in range(20)]
    samples = asyncio.run(load.fire(asks, [0.0] * 20, send, most=3))
    assert [sample.prompt_tokens for sample in samples] == list(range(20)) and most == 3


class Ticks:
    """A clock that moves one second each time somebody looks."""

    def __init__(self) -> None:
        self._now = itertools.count()

    def __call__(self) -> float:
        return float(next(self._now))


def test_latency_figures_of_scripted_rounds() -> None:
    found = offline.latency_figures([[Sample(0, 4, 2, [1, 2])], [Sample(10, 4, 2, [12, 14])]])
    assert found["avg_latency"] == 3 and found["latencies"] == [2, 4] and found["percentiles"]["50"] == 3
    assert found["median_ttft_ms"] == 1500 and found["median_itl_ms"] == 1500
    assert found["output_throughput"] == pytest.approx(2 / 3)


def test_throughput_and_ratios_of_scripted_rounds() -> None:
    rounds = [[Sample(0, 6, 2, [1, 4]), Sample(0, 6, 2, [2, 3])]]
    found = offline.throughput_figures(rounds)
    assert (found["elapsed_time"], found["total_num_tokens"], found["requests_per_second"]) == (4, 16, 0.5)
    assert (found["tokens_per_second"], found["output_throughput"]) == (4, 1)
    slower = [[Sample(0, 6, 4, [8])]]
    assert offline.ratios({"hanok": rounds, "peer": slower}) == {"peer": {"median": 2, "min": 2, "max": 2}}


def test_who_goes_first_changes_and_no_prompt_comes_twice() -> None:
    seen: list[tuple[str, int]] = []
    numbers = itertools.count()

    def runner(name: str) -> Callable[..., list[Sample]]:
        def run(prompts: Any, output_len: int) -> list[Sample]:
            seen.append((name, prompts[0][0]))
            return [Sample(0, 1, 1, [1])]

        return run

    found = in_turn({n: runner(n) for n in "ab"}, lambda: [[next(numbers)]], 1, rounds=2, warmup=1)
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert {name: len(rounds) for name, rounds in found.items()} == {"a": 2, "b": 2}


def test_the_engine_is_measured_token_by_token() -> None:
    llm = subject.open_model("preset=llama-tiny", DIALS, device="cpu")
    rows = subject.prompts(2, 5, 64, random.Random(0))
    samples = Hanok(llm, {"max_batch_tokens": 8}, clock=Ticks())(rows, 3)
    assert [(s.prompt_tokens, s.output_tokens) for s in samples] == [(5, 3), (5, 3)]
    assert samples[0].sent == 0 and samples[0].arrivals[0] >= 1
    assert all(early < late for s in samples for early, late in itertools.pairwise(s.arrivals))


def test_words_are_settings_of_the_engine_or_dials() -> None:
    assert subject.split(["numerics=exact", "depth=3"]) == ({"numerics": "exact"}, ["depth=3"])
    with pytest.raises(UsageError):
        subject.split(["numerics=sloppy"])
    with pytest.raises(UsageError, match="exceed the model's context of 64"):
        offline.measure(subject.open_model("preset=llama-tiny", DIALS), offline.Load(1, 60, 8), {})


def test_transformers_answers_the_same_prompts_token_by_token() -> None:
    pytest.importorskip("transformers")
    from hanok.recipes.bench.runner import Transformers

    llm = subject.open_model("preset=llama-tiny", DIALS, device="cpu")
    samples = Transformers(llm, clock=Ticks())(subject.prompts(2, 5, 64, random.Random(0)), 4)
    assert [(s.output_tokens, s.arrivals) for s in samples] == [(4, [1, 2, 3, 4])] * 2


Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


async def against(script: Script, body: Callable[[Address], Awaitable[Any]]) -> Any:
    """Return what `body` returns while a scripted server answers each connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"content-length" in line), 0)
        await script(head + await reader.readexactly(length), writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        return await body(Address(port=server.sockets[0].getsockname()[1]))


def chunks(*events: str) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(e.encode()), e.encode()) for e in events)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST = 'data: {"choices":[{"text":"a","finish_reason":null}]}\n\n'
CUT = 'data: {"choices":[{"text":"é","finish_reason"'
REST = ':null}]}\n\ndata: {"choices":[{"text":"","finish_reason":"length"}]}\r\n\r\n: comment\n\n'
USAGE = 'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":4}}\n\ndata: [DONE]\n\n'


def sample_of(raw: bytes) -> Sample:
    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        assert b'"stream": true' in request and request.startswith(b"POST /v1/completions HTTP/1.1")
        writer.write(raw)
        await writer.drain()

    async def body(address: Address) -> Sample:
        return await load.request(load.Target(address, "m"), load.Ask([1, 2], 2, 4), clock=Ticks())

    found: Sample = asyncio.run(against(script, body))
    return found


def test_a_stream_is_followed_however_its_bytes_are_cut() -> None:
    found = sample_of(HEAD + chunks(FIRST, CUT, REST, USAGE) + b"0\r\n\r\n")
    assert found.ok and (found.prompt_tokens, found.output_tokens) == (7, 4)
    assert found.arrivals == [1, 3], "the second event came whole with the third piece; an empty end brings nothing"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (HEAD + chunks(FIRST), "broke off"),
        (HEAD + chunks(FIRST) + b"0\r\n\r\n", r"without \[DONE\]"),
        (HEAD + chunks(FIRST, 'data: {"error":{"message":"worker lost"}}\n\n') + b"0\r\n\r\n", "worker lost"),
        (HEAD + chunks("data: {nonsense\n\n") + b"0\r\n\r\n", "no JSON"),
        (b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nbusy", "HTTP 429: busy"),
        (b"gibberish\r\n\r\n", "broke off"),
        (b"", "ended before|broke off"),
    ],
)
def test_what_goes_wrong_is_a_failed_request(raw: bytes, error: str) -> None:
    found = sample_of(raw)
    assert not found.ok
    with pytest.raises(AssertionError, match=error):
        raise AssertionError(found.error)


def test_an_address_is_read_and_nobody_there_is_said() -> None:
    assert Address.parse("https://h/base/") == Address("h", 443, True, "/base")
    assert Address.parse("http://[::1]:81").host_header == b"[::1]:81"
    for wrong in ("ftp://x", "localhost:8000", ""):
        with pytest.raises(UsageError):
            Address.parse(wrong)

    async def knock(address: Address) -> None:
        async with ask(address, "GET", "/"):
            pass

    with pytest.raises(Unreachable):
        asyncio.run(knock(Address(uds=Path("/nonexistent/socket"))))
    with pytest.raises(Broken):
        asyncio.run(against(lambda request, writer: asyncio.sleep(0), knock))


def test_events_are_split_anywhere() -> None:
    whole = "data: one\n\ndata: zwei é\n\n".encode()

    async def bytewise() -> AsyncIterator[bytes]:
        for at in range(len(whole)):
            yield whole[at : at + 1]

    async def collect() -> list[str]:
        return [text async for text, _ in load.events(bytewise(), Ticks())]

    assert asyncio.run(collect()) == ["one", "zwei é"]


def test_prompts_from_a_file_go_round(tmp_path: Path) -> None:
    rows = load.read_asks('{"prompt": "a"}\n\n{"prompt": "b", "max_tokens": 9}\n', 3, 5)
    assert [(row.prompt, row.output_len) for row in rows] == [("a", 5), ("b", 9), ("a", 5)]
    for wrong in ("", "[]\n", '{"text": 1}\n'):
        with pytest.raises(UsageError):
            load.read_asks(wrong, 1, 1)


@pytest.fixture
def answers() -> Iterator[Script]:
    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        if request.startswith(b"GET /v1/models"):
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{"data":[{"id":"tiny"}]}')
        else:
            writer.write(HEAD + chunks(FIRST, USAGE) + b"0\r\n\r\n")
        await writer.drain()

    yield script


def test_the_whole_verb_against_a_scripted_server(
    answers: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hanok.cli import execute

    async def body(address: Address) -> int:
        out = str(tmp_path / "found.json")
        url = f"http://127.0.0.1:{address.port}/v1"
        words = ["bench", "serve", "--base-url", url, "--num-prompts", "3", "--slo", "e2el:1e9", "--json", out]
        return await asyncio.to_thread(execute, words)

    assert asyncio.run(against(answers, body)) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["model_id"], found["completed"], found["total_output_tokens"]) == ("tiny", 3, 12)
    assert found["request_goodput"] == found["request_throughput"]
    assert "Successful requests:                    3" in capsys.readouterr().out


def test_the_offline_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hanok.cli import execute

    out = tmp_path / "found.json"
    sizes = ["--input-len", "4", "--output-len", "3", "--num-iters", "2", "--json", str(out)]
    assert execute(["bench", "latency", "preset=llama-tiny", *DIALS, "--batch-size", "2", *sizes]) == 0
    assert len(json.loads(out.read_text())["latencies"]) == 2
    assert execute(["bench", "throughput", "preset=llama-tiny", *DIALS, "--num-prompts", "2", *sizes]) == 0
    assert json.loads(out.read_text())["total_num_tokens"] == 14
    assert "output tokens/s" in capsys.readouterr().out
