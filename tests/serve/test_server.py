"""Coming up, being asked how one is, and going down without cutting anybody off."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.engine.worker import EngineWorker
from hanok.serve import Server
from hanok.serve import server as module
from hanok.serve.bind import listen, url_of

from .wire import error_of, open_request, send

LONG = {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "stream": True}


def closed(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0


def test_while_loading_it_answers_503_and_then_is_ready(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}
    load = Server._load

    def slow(self: Server) -> EngineWorker:
        for path in ("/live", "/ready", "/health", "/", "/v1/models", "/metrics"):
            seen[path] = send(self.url, path)[0]
        answer = send(self.url, "/v1/chat/completions", {"messages": []})
        assert answer[0] == 503 and error_of(answer)["code"] == "loading" and answer[1]["retry-after"]
        return load(self)

    monkeypatch.setattr(Server, "_load", slow)
    with Server(llm, port=0) as server:
        assert seen == {"/live": 200, "/ready": 503, "/health": 503, "/": 200, "/v1/models": 503, "/metrics": 200}
        assert send(server.url, "/health")[2] == b'{"status":"ok"}'
        assert server.alive and server.model == "hanok" and server.api_url == server.url + "/v1"
        url = server.url
    assert closed(url) and not server.alive


def test_a_model_that_cannot_be_loaded_leaves_no_server(tmp_path: Path) -> None:
    server = Server(tmp_path, port=0)
    with pytest.raises(UsageError):
        server.start()
    assert closed(server.url)


def test_a_directory_is_served_under_its_name(llm: LLM, tmp_path: Path) -> None:
    llm.save(tmp_path / "my-model")
    with Server(tmp_path / "my-model", port=0, engine={"numerics": "exact"}) as server:
        assert server.model == "my-model" and "exact numerics" in server.banner()
        body = {"messages": [{"role": "user", "content": "한옥이 뭐야?"}], "temperature": 0, "max_tokens": 4}
        assert "안녕".encode() in send(server.url, "/v1/chat/completions", body)[2]
        assert send(server.url, "/version")[0] == 200
        page = json.loads(send(server.url, "/openapi.json")[2])
        refs = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(page)))
        assert {"Message", "Part", "StreamOptions"} <= refs <= set(page["components"]["schemas"])


def test_a_model_without_tokenizer_takes_token_ids_only(llm: LLM) -> None:
    with Server(LLM(llm.model), port=0) as server:
        whole = send(server.url, "/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 3, "logprobs": 1})
        assert whole[0] == 200 and b"token_id:" in whole[2]
        assert error_of(send(server.url, "/v1/completions", {"prompt": "text"}))["param"] == "prompt"
        chat = send(server.url, "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
        assert chat[0] == 400 and error_of(chat)["param"] == "messages"


def test_a_taken_port_gives_the_next_one() -> None:
    first = listen("127.0.0.1", 0, tries=1)
    first.listen()
    port = first.getsockname()[1]
    with pytest.raises(UsageError, match=f"port {port} is taken"):
        listen("127.0.0.1", port, tries=1)
    second = listen("127.0.0.1", port, tries=20)
    assert port < second.getsockname()[1] < port + 20 and url_of(second).startswith("http://127.0.0.1:")
    with pytest.raises(UsageError, match="no address"):
        listen("not a host", 80, tries=1)
    first.close()
    second.close()


@pytest.mark.parametrize(("grace", "whole"), [(20.0, True), (0.0, False)])
def test_stopping_finishes_streams_within_the_grace(llm: LLM, grace: float, whole: bool) -> None:
    server = Server(llm, port=0, grace=grace).start()
    links = [open_request(server.url, "/v1/completions", LONG) for _ in range(5)]
    answers = [link.makefile("rb") for link in links]
    assert all(b"200" in answer.readline() for answer in answers)  # every stream has begun
    late: list[int] = []
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    if whole:
        while not server.app.state.gateway.draining:
            time.sleep(0.001)
        late.append(send(server.url, "/v1/completions", {"prompt": "a"})[0])
    texts = [answer.read() for answer in answers]
    stopping.join()
    for link in links:
        link.close()
    assert [b"[DONE]" in text for text in texts] == [whole] * 5
    assert whole or all(b'"code":"aborted"' in text for text in texts), "a cut stream says so"
    assert late == [503] * whole and closed(server.url)


def test_a_dead_engine_shows_at_once(llm: LLM) -> None:
    with Server(llm, port=0) as server:
        assert server.worker is not None
        server.worker.close()
        assert send(server.url, "/ready")[0] == send(server.url, "/health")[0] == 503
        assert send(server.url, "/live")[0] == 200
        assert send(server.url, "/v1/completions", {"prompt": "a"})[0] == 503


def test_serve_runs_until_a_signal_and_lets_a_stream_finish(llm: LLM, tmp_path: Path) -> None:
    llm.save(tmp_path / "model")
    code = "import sys; from hanok.serve import serve; serve(sys.argv[1], port=0, grace=20)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "model")], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        url = next(match[1] for line in lines if (match := re.search(r"chat +(http://\S+)/$", line.strip())))
        with open_request(url, "/v1/completions", LONG) as link:
            stream = link.makefile("rb")
            assert stream.readline().startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGTERM)
            assert b"data: [DONE]" in stream.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_serve_says_when_the_engine_has_died(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Server, "alive", property(lambda self: False))
    with pytest.raises(module.HanokError, match="stopped"):
        module.serve(llm, port=0)


def test_a_busy_server_says_so_and_an_idle_one_is_silent(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PULSE", 0.0)
    with Server(llm, port=0) as server:
        pulse = module.Pulse(server)
        pulse.beat()
        assert capsys.readouterr().err == ""
        assert send(server.url, "/v1/completions", {"prompt": "a"})[0] == 200
        pulse.beat()
        assert re.fullmatch(r"running 0, waiting 0, \d+ tok/s, cache 0 %\n", capsys.readouterr().err)
