"""S2: far more than fits: everyone gets an end, the rest a quick 429; the control is in `serve/test_overload.py`."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from dataclasses import dataclass

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server

from .probe import PATIENCE, TEXT, error_of, events, send, settle

WORK = {"prompt": "the quick fox", "max_tokens": 30, "ignore_eos": True}


@dataclass
class Fate:
    """What became of one request: its status, and the seconds until it was refused or its first token came."""

    status: int
    first: float
    tokens: int = 0


def one(server: Server, fates: list[Fate]) -> None:
    """Send a stream and note what became of it."""
    start = time.monotonic()
    try:
        first, tokens, done = 0.0, 0, False
        for event in events(server.url, TEXT, {**WORK, "stream": True}):
            first = first or time.monotonic() - start
            tokens += event != "[DONE]"
            done = event == "[DONE]"
        fates.append(Fate(200 if done else 0, first, tokens))
    except AssertionError as refused:
        answer = json.loads(refused.args[0])
        assert answer["error"]["code"] == "queue_full", answer
        fates.append(Fate(429, time.monotonic() - start))


def storm(server: Server, count: int, rate: float) -> tuple[list[Fate], float]:
    """Send requests at random moments, `rate` a second on average, whatever becomes of them."""
    rng, fates, threads = random.Random(3), list[Fate](), []
    start = time.monotonic()
    for _ in range(count):
        threads.append(threading.Thread(target=one, args=(server, fates)))
        threads[-1].start()
        time.sleep(rng.expovariate(rate))
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a request hangs"
    return fates, time.monotonic() - start


@pytest.mark.slow
def test_four_times_as_much_as_can_be_served(llm: LLM) -> None:
    with Server(llm, port=0, model_name="tiny", max_queue=8, engine={"max_sequences": 8}) as server:
        assert send(server.url, TEXT, WORK)[0] == 200
        at_once, seconds = storm(server, 16, 1e6)
        capacity = 16 / seconds  # requests a second, all of them welcome
        assert {fate.status for fate in at_once} == {200}
        calm, _ = storm(server, 100, 0.8 * capacity)
        crowd, seconds = storm(server, 400, 4 * capacity)
        settle(server)
        served = [fate for fate in crowd if fate.status == 200]
        refused = [fate for fate in crowd if fate.status == 429]
        assert len(crowd) == 400 == len(served) + len(refused), "every request has an end"
        assert refused and len(served) >= 16
        assert error_of_full(server)
        p99 = [
            statistics.quantiles([fate.first for fate in fates if fate.status == 200], n=100)[-1]
            for fates in (calm, crowd)
        ]
        print(
            f"S2: capacity {capacity:.1f}/s; of 400 at four times that {len(served)} served, {len(refused)} refused; "
            f"goodput {len(served) / seconds / capacity:.2f} of capacity; "
            f"first token p99 {p99[0]:.2f} s -> {p99[1]:.2f} s; "
            f"refusal median {statistics.median(fate.first for fate in refused) * 1000:.0f} ms"
        )


def error_of_full(server: Server) -> bool:
    """Say whether a request for more than all places is refused by name."""
    return error_of(send(server.url, TEXT, {**WORK, "n": 100}))["param"] == "n"
