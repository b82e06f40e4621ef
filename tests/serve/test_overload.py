"""More work than fits: a quick 429 for the rest, and an answer for everyone who was let in."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server

from .wire import Answer, error_of, send

WORK = {"prompt": "a", "max_tokens": 60, "ignore_eos": True}


def storm(server: Server, count: int) -> list[tuple[float, Answer]]:
    """Send requests all at once and return (seconds, answer) of each."""

    def one(_: int) -> tuple[float, Answer]:
        start = time.monotonic()
        answer = send(server.url, "/v1/completions", WORK)
        return time.monotonic() - start, answer

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_full_queue_refuses_quickly_and_serves_the_rest(llm: LLM) -> None:
    with Server(llm, port=0, max_queue=4, engine={"max_sequences": 2}) as server:
        answers = storm(server, 30)
        statuses = [answer[0] for _, answer in answers]
        assert set(statuses) == {200, 429}, "every request has an end, and some were too many"
        assert statuses.count(200) >= 6, "what the engine and the queue hold is served"
        refused = [(seconds, answer) for seconds, answer in answers if answer[0] == 429]
        assert sorted(seconds for seconds, _ in refused)[len(refused) // 2] < 0.5
        for _, answer in refused:
            assert int(answer[1]["retry-after"]) >= 1
            assert error_of(answer)["code"] == "queue_full" and error_of(answer)["type"] == "rate_limit_error"
        metrics = send(server.url, "/metrics")[2].decode()
        assert f'hanok:requests_rejected_total{{model_name="hanok"}} {len(refused)}.0' in metrics
        assert send(server.url, "/v1/completions", WORK)[0] == 200, "afterwards there is room again"


@pytest.mark.slow
def test_control_without_the_bound_everyone_waits(llm: LLM) -> None:
    with Server(llm, port=0, max_queue=1000, engine={"max_sequences": 2}) as server:
        assert {answer[0] for _, answer in storm(server, 30)} == {200}


def test_one_request_cannot_ask_for_more_than_there_is(llm: LLM) -> None:
    with Server(llm, port=0, max_queue=2, engine={"max_sequences": 2}) as server:
        assert error_of(send(server.url, "/v1/completions", {**WORK, "n": 5}))["param"] == "n"
        assert send(server.url, "/v1/completions", {**WORK, "n": 4, "max_tokens": 2})[0] == 200
