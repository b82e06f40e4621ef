"""Several workers behind one port: routing by prefix, summed metrics, and what happens when a worker is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hanok.core.errors import HanokError, UsageError
from hanok.engine.local import LLM
from hanok.serve.config import ServeConfig
from hanok.serve.router import fleet as fleet_module
from hanok.serve.router.fleet import plain
from hanok.serve.router.prefix import CHUNK, SLACK, PrefixMap, chain, prompt_of
from hanok.serve.router.run import Router
from hanok.serve.router.totals import Totals

FAKE = Path(__file__).parent / "fake_worker.py"
LONG = "x" * 4 * CHUNK


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def test_a_longer_conversation_begins_with_the_links_of_the_shorter_one() -> None:
    short = chain(prompt_of(json.dumps(chat(LONG)).encode()), b"")
    turns = [*chat(LONG)["messages"], {"role": "assistant", "content": "y" * CHUNK}]
    long = chain(prompt_of(json.dumps({"temperature": 1, "messages": turns, "model": "m"}).encode()), b"")
    assert len(short) == 4 and long[:3] == short[:3] and len(long) > len(short)
    assert chain(b"a" * CHUNK, b"key 1") != chain(b"a" * CHUNK, b"key 2"), "nobody shares a prefix with strangers"
    assert chain(b"a" * (CHUNK - 1), b"") == []
    for nothing in (b"", b"[1]", b"{", b"[" * 10**5, b'{"temperature": 1}', b"\xff"):
        assert prompt_of(nothing) == b""
    assert prompt_of(b'{"prompt": "\\ud800"}')


def test_the_worker_that_knows_the_prefix_is_chosen_unless_it_is_far_busier() -> None:
    prefixes = PrefixMap()
    links = chain(LONG.encode(), b"")
    assert prefixes.choose(links, {0: 1, 1: 0}) == 1, "nobody knows it: the idlest"
    prefixes.note(links, 0)
    assert prefixes.choose(links, {0: SLACK, 1: 0}) == 0
    assert prefixes.choose(links, {0: SLACK + 1, 1: 0}) == 1
    assert prefixes.choose(links, {1: 9}) == 1, "the one that knows it is not ready"
    other = chain((LONG[: 2 * CHUNK] + "y" * 2 * CHUNK).encode(), b"")
    assert prefixes.choose(other, {0: 1, 1: 0}) == 0, "a part of the prefix counts as well"
    prefixes.forget(0)
    assert prefixes.choose(links, {0: 1, 1: 0}) == 1


def test_what_was_not_used_for_longest_is_forgotten_first() -> None:
    prefixes = PrefixMap(size=2)
    for at in range(3):
        prefixes.note([bytes([at])], at)
    assert prefixes.choose([b"\0"], {0: 1, 1: 0}) == 1 and prefixes.choose([b"\2"], {0: 0, 2: 1}) == 2


PAGE = """# TYPE t_total counter
t_total{a="x"} %d
# TYPE u_perc gauge
u_perc %f
# TYPE h histogram
h_bucket{le="1.0"} 1
h_bucket{le="+Inf"} 2
h_count 2
h_sum 3
# TYPE t_created gauge
t_created 17
"""


def test_metrics_are_added_up_and_survive_a_restart() -> None:
    totals = Totals()
    text = totals.render({0: PAGE % (5, 0.2), 1: PAGE % (7, 0.6)}, [("own", "counter", "mine", 4.0)]).decode()
    assert 't_total{a="x"} 12.0' in text and "u_perc 0.4" in text and "own_total 4.0" in text
    assert 'h_bucket{le="+Inf"} 4.0' in text and "h_sum 6.0" in text and "t_created" not in text
    totals.ended(0)
    text = totals.render({0: PAGE % (1, 0.0), 1: PAGE % (7, 0.6)}, []).decode()
    assert 't_total{a="x"} 13.0' in text, "5 of the first life, 1 of the second, 7"
    assert "u_perc 0.3" in text, "a gauge is of now"


def test_secrets_reach_the_pipe_in_the_clear() -> None:
    config = ServeConfig.parse({"api_key": "secret", "engine": {"max_sequences": 3}})
    again = ServeConfig.parse(json.loads(json.dumps(plain(config))))
    assert again == config and again.api_key is not None and again.api_key.get_secret_value() == "secret"


@pytest.fixture
def router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    """Two processes that answer like workers, without a model."""
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    for name, seconds in {"LOOK": 0.05, "FIRST": 0.05, "LONGEST": 0.1, "CLOSE": 60.0}.items():
        monkeypatch.setattr(fleet_module, name, seconds)
    made = Router("nothing", workers=2, port=0, model_name="m")
    made.fleet.command = (sys.executable, str(FAKE))
    with made:
        yield made


def connect(router: Router) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(router.url.removeprefix("http://"), timeout=120))


def send(router: Router, path: str, body: Any = None, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    raw = None if body is None else json.dumps(body).encode()
    with connect(router) as connection:
        connection.request(
            "GET" if body is None else "POST", path, raw, {"content-type": "application/json", **headers}
        )
        response = connection.getresponse()
        return response, response.read()


def pid_of(router: Router, body: Any) -> int:
    """Return the process that answered."""
    response, text = send(router, "/v1/completions", body)
    assert response.status == 200, text
    return int(json.loads(text)["pid"])


@contextlib.contextmanager
def begun(router: Router, body: Any, path: str = "/v1/chat/completions") -> Iterator[http.client.HTTPResponse]:
    """Give a streamed answer of which nothing has been read yet; leaving hangs up."""
    with connect(router) as connection:
        connection.request("POST", path, json.dumps({**body, "stream": True}).encode())
        with connection.getresponse() as response:
            yield response


def until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_requests_are_passed_on_and_stick_to_their_prefix(router: Router) -> None:
    pids = set()
    for _ in range(6):
        response, text = send(router, "/v1/chat/completions?a=b", chat(LONG), host="outside")
        assert response.status == 200 and response.getheader("x-own") == "1"
        found = json.loads(text)
        assert found["path"] == "/v1/chat/completions?a=b" and found["host"], "path and Host arrive as they were sent"
        pids.add(found["pid"])
    assert len(pids) == 1 and router.fleet.prefixes.hits == 5
    with begun(router, chat("short, hang")) as first:
        pid = json.loads(first.readline()[6:])["pid"]
        assert pid_of(router, {"prompt": "a"}) != pid, "without a prefix the idlest is asked"
    assert send(router, "/ready")[0].status == send(router, "/live")[0].status == 200


def test_pieces_pass_through_before_the_answer_ends_and_a_client_that_leaves_is_told_on(
    router: Router, tmp_path: Path
) -> None:
    with begun(router, chat("hang")) as response:
        assert b"pid" in response.readline(), "the worker waits, and its first piece is here"
    until((tmp_path / "log").exists)
    until(lambda: not any(worker.inflight for worker in router.workers) and not router.proxy.inflight)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        *(pytest.param(path, marks=pytest.mark.slow) for path in ("/v1/messages", "/v1/responses")),
    ],
)
def test_a_killed_worker_fails_its_own_requests_and_no_others(router: Router, path: str) -> None:
    with begun(router, chat("hang"), path) as response:
        pid = json.loads(response.readline()[6:])["pid"]
        os.kill(pid, signal.SIGKILL)
        rest = response.read().decode()
    assert "the worker that answered this request has ended" in rest and "[DONE]" not in rest
    assert "\n\n" in rest.partition("half")[2], "the half event ends before the error begins"
    until(lambda: all(worker.pid != pid or not worker.ready for worker in router.workers))  # its end has been noticed
    for _ in range(4):
        assert pid_of(router, {"prompt": "a"}) != pid
    until(lambda: len(router.fleet.ready) == 2 and all(worker.pid != pid for worker in router.workers))
    assert sum(worker.restarts for worker in router.workers) == 1


def test_a_worker_that_dies_before_it_answers_is_a_502(router: Router) -> None:
    response, text = send(router, "/v1/chat/completions", chat("die"))
    assert response.status == 502 and response.getheader("retry-after") == "1"
    assert json.loads(text)["error"]["code"] == "worker_lost"


def test_metrics_need_what_the_workers_ask_for(router: Router) -> None:
    assert send(router, "/metrics")[0].status == 401
    response, text = send(router, "/metrics", authorization="Bearer key")
    assert response.status == 200 and b'n_total{who="w"} 6.0' in text and b"use_perc 0.5" in text and b"r 4.0" in text
    assert b"hanok:workers_ready 2.0" in text


def test_a_body_that_is_too_large_is_refused_here(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanok.serve.router.proxy.MAX_BODY", 1000)
    response, text = send(router, "/v1/messages", {"prompt": "a" * 2000})
    assert response.status == 413 and json.loads(text)["type"] == "error", "in the shape of the path's own API"


def test_leaving_waits_for_what_is_running_and_takes_nothing_more(router: Router) -> None:
    with begun(router, chat("hang")) as response:
        response.readline()
        pids = [worker.pid for worker in router.workers]
        ender = threading.Thread(target=router.stop)
        ender.start()
        until(lambda: router.proxy.draining)
        assert send(router, "/ready")[0].status == send(router, "/v1/models")[0].status == 503
        assert send(router, "/live")[0].status == 200 and ender.is_alive()
    ender.join(120)
    assert not ender.is_alive()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


def test_a_worker_that_cannot_start_ends_the_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = Router(tmp_path, workers=2, port=0)
    made.fleet.command = (sys.executable, "-c", "raise SystemExit('no model')")
    with pytest.raises(HanokError, match="worker 0 has ended with code 1"):
        made.start()
    assert "no model" in capfd.readouterr().err and not made.alive
    with pytest.raises(UsageError):
        Router(tmp_path, workers=0)


@pytest.mark.slow
def test_real_workers_answer_and_one_may_be_killed(llm: LLM, tmp_path: Path) -> None:
    llm.save(tmp_path)
    with Router(tmp_path, workers=2, port=0, model_name="m", api_key="key", engine={"max_sequences": 4}) as router:
        key = {"authorization": "Bearer key"}
        ask = {"model": "m", "prompt": "a", "max_tokens": 200, "ignore_eos": True, "temperature": 0, "stream": True}
        assert send(router, "/v1/completions", ask)[0].status == 401
        _, whole = send(router, "/v1/completions", ask, **key)
        assert whole.endswith(b"data: [DONE]\n\n")
        assert b"hanok:generation_tokens_total" in send(router, "/metrics", **key)[1]
        victim = router.workers[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: not victim.ready)  # until its socket is gone, it may still be asked
        for _ in range(4):
            assert send(router, "/v1/completions", ask, **key)[1].endswith(b"data: [DONE]\n\n")
        until(lambda: len(router.fleet.ready) == 2 and victim.restarts == 1)
