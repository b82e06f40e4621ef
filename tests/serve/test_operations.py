"""Running a server: several keys, origins, TLS, names for requests, slow clients, several models, and reloading."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.engine.worker import EngineWorker
from hanok.serve import ServeConfig, Server, slow
from hanok.serve.app import attach
from hanok.serve.bind import listen
from hanok.serve.log import Told
from hanok.serve.spans import Spans

from .wire import error_of, open_request, send

CHAT = {"messages": [{"role": "user", "content": "한옥이 뭐야?"}], "max_tokens": 4, "temperature": 0}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_any_of_several_keys_opens_and_none_is_written_down(
    llm: LLM, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text("# for the team\nfile-key-1\n\n  file-key-2  \n")
    settings: dict[str, Any] = {"api_key": "flag-key", "api_keys": ("other-key",), "api_key_file": tmp_path / "keys"}
    with Server(llm, port=0, model_name="tiny", request_log=True, **settings) as locked:
        for key in ("flag-key", "other-key", "file-key-1", "file-key-2"):
            assert send(locked.url, "/v1/chat/completions", CHAT, headers=bearer(key))[0] == 200
        for key in ("", "# for the team", "file-key", "flag-key,other-key"):
            assert send(locked.url, "/v1/models?key=secret-query", headers=bearer(key))[0] == 401
        refused = send(locked.url, "/v1/messages", {}, headers={"x-api-key": "wrong-key"})
        assert refused[0] == 401 and json.loads(refused[2])["error"]["type"] == "authentication_error"
        assert json.loads(refused[2])["type"] == "error", "in the shape of its API"
    log = capfd.readouterr().err
    assert "POST /v1/chat/completions 200 " in log and "+4 tokens" in log and "GET /v1/models 401" in log
    for secret in ("flag-key", "other-key", "file-key", "wrong-key", "secret-query", "한옥"):
        assert secret not in log
    (tmp_path / "keys").write_text("# nothing\n")
    with pytest.raises(UsageError, match="empty key"):
        Server(llm, api_key_file=tmp_path / "keys")


def test_requests_have_names(server: Server) -> None:
    given = send(server.url, "/v1/models", headers={"X-Request-Id": "my-request.1"})
    assert given[1]["x-request-id"] == "my-request.1"
    made = {
        send(server.url, "/v1/models", headers={"X-Request-Id": bad})[1]["x-request-id"] for bad in ("a b", "x" * 99)
    }
    assert len(made) == 2 and all(len(name) == 32 for name in made)
    line = Told("n", "GET", "/%0Aforged", 200, 0, 1.0, {"prompt_tokens": 3}, "").line()
    assert line == "n GET /%0Aforged 200 3+0 tokens 1.000 s"


def test_origins(llm: LLM) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-lang"}
    with Server(llm, port=0, cors=("https://chat.example",), api_key="k") as named:
        for origin, allowed in (("https://chat.example", True), ("https://evil.example", False)):
            answer = send(named.url, "/v1/messages", method="OPTIONS", headers={"Origin": origin, **ask})
            assert (answer[0] == 200) == allowed == ("access-control-allow-origin" in answer[1])
        answer = send(named.url, "/v1/models", headers={"Origin": "https://chat.example"})
        assert answer[0] == 401 and answer[1]["access-control-allow-origin"], "the page can read why"


def test_tls(llm: LLM, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    with Server(llm, port=0, ssl_keyfile=key, ssl_certfile=cert) as safe:
        assert safe.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(f"{safe.url}/health", context=trust, timeout=20) as answer:
            assert json.load(answer) == {"status": "ok"}
    with pytest.raises(UsageError, match="belong together"):
        ServeConfig.parse({"ssl_keyfile": key})
    with pytest.raises(UsageError, match="no file"):
        ServeConfig.parse({"ssl_keyfile": key, "ssl_certfile": tmp_path / "none"})


HALF = [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ", b"POST /v1/models HTTP/1.1\r\n"]


def test_half_a_head_is_not_waited_for(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    monkeypatch.setattr(slow, "HEAD", 0.3)
    with Server(llm, port=0) as server:
        links = []
        for head in [*HALF, whole + b"GET /li"]:  # the last begins a second request on a connection that was used
            link = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=20)
            link.sendall(head)
            links.append(link)
        for link in links:
            with link, link.makefile("rb") as stream:
                try:
                    text = stream.read()  # ends when the server closes, else the socket's time runs out
                except ConnectionResetError:
                    text = b""
                assert text == b"" or text.startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(slow, "HEAD", 60.0)  # the control: with the guard far away the connection stays
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=1.5) as link:
            link.sendall(HALF[2])
            with pytest.raises(TimeoutError):
                link.recv(1)


def test_a_reader_that_takes_nothing_is_dropped() -> None:
    class Wire:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Loop:
        due: list[tuple[float, Any]] = []

        def call_later(self, seconds: float, work: Any) -> Any:
            self.due.append((seconds, work))
            return type("Timer", (), {"cancel": lambda _: self.due.clear()})()

    protocol = slow.TimedProtocol.__new__(slow.TimedProtocol)
    protocol.transport, protocol.loop = Wire(), Loop()  # type: ignore[assignment]
    protocol.flow = type("Flow", (), {"pause_writing": lambda _: None, "resume_writing": lambda _: None})()
    protocol._reader = None
    protocol.pause_writing()
    protocol.resume_writing()
    assert Loop.due == []
    protocol.pause_writing()
    ((seconds, work),) = Loop.due
    work()
    assert seconds == slow.READER and protocol.transport.aborted  # type: ignore[attr-defined]


def test_several_models_by_name(llm: LLM) -> None:
    bare = LLM(llm.model)
    with Server({"talker": llm, "raw": bare}, port=0, metrics_compat="vllm") as both:
        listed = json.loads(send(both.url, "/v1/models")[2])["data"]
        assert [card["id"] for card in listed] == ["talker", "raw"] and both.model == "talker"
        for name in (None, "talker"):
            answer = json.loads(send(both.url, "/v1/chat/completions", {**CHAT, "model": name})[2])
            assert answer["model"] == "talker"
        assert send(both.url, "/v1/chat/completions", {**CHAT, "model": "raw"})[0] == 400
        raw = {"model": "raw", "prompt": [5, 6], "max_tokens": 3, "ignore_eos": True}
        assert json.loads(send(both.url, "/v1/completions", raw)[2])["model"] == "raw"
        assert error_of(send(both.url, "/v1/completions", {**raw, "model": "x"}))["code"] == "model_not_found"
        assert send(both.url, "/v1/models/raw")[0] == 200 and send(both.url, "/v1/models/x")[0] == 404
        text = send(both.url, "/metrics")[2].decode()
        assert text.count("# TYPE vllm:request_generation_tokens histogram") == 1
        assert 'vllm:request_generation_tokens_sum{model_name="raw"} 3.0' in text
        assert 'vllm:request_generation_tokens_sum{model_name="talker"} 8.0' in text
        assert both.banner().count("serves") == 2
    with pytest.raises(UsageError, match="model_name"):
        Server({"a": llm, "b": llm}, model_name="c")


def test_a_reload_lets_running_answers_end_and_a_bad_folder_changes_nothing(llm: LLM, tmp_path: Path) -> None:
    llm.save(tmp_path / "m")
    long = {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with Server(tmp_path / "m", port=0, api_key="k") as server:
        before = server.worker
        assert before is not None
        old = json.loads(send(server.url, "/v1/chat/completions", CHAT, headers=bearer("k"))[2])["system_fingerprint"]
        changed = LLM.load(tmp_path / "m")
        with server_link(server, long) as stream:
            assert stream.readline().startswith(b"HTTP/1.1 200")
            with torch.no_grad():
                next(changed.model.parameters()).mul_(1.01)
            changed.save(tmp_path / "m")
            answer = send(server.url, "/admin/reload", {}, headers=bearer("k"))
            versions = json.loads(answer[2])["versions"]
            assert answer[0] == 200 and list(versions) == ["m"]
            assert server.worker is not before
            text = stream.read()
            assert b"data: [DONE]" in text and old.encode() in text and versions["m"].encode() not in text
        new = json.loads(send(server.url, "/v1/chat/completions", CHAT, headers=bearer("k"))[2])["system_fingerprint"]
        assert new.endswith(versions["m"]) and new != old
        before._thread.join(20)
        assert not before.alive, "the old engine is closed when its last answer has ended"
        (tmp_path / "m" / "config.json").write_text("{")
        refused = send(server.url, "/admin/reload", {"model": "m"}, headers=bearer("k"))
        assert refused[0] == 409 and error_of(refused)["code"] == "reload_failed"
        assert send(server.url, "/v1/chat/completions", CHAT, headers=bearer("k"))[0] == 200
        assert send(server.url, "/admin/reload", {"model": "x"}, headers=bearer("k"))[0] == 404
    with Server(llm, port=0) as given:
        assert send(given.url, "/admin/reload", {})[0] == 403, "without keys nobody may"
        with pytest.raises(UsageError, match="object"):
            given.reload()


@contextmanager
def server_link(server: Server, body: dict[str, Any]) -> Iterator[Any]:
    """Open a stream and give out what comes, status line first."""
    headers = {"Authorization": "Bearer k", "Connection": "close"}  # or reading to the end waits for the next request
    with open_request(server.url, "/v1/completions", body, headers=headers) as link, link.makefile("rb") as stream:
        yield stream


def test_control_closing_at_once_cuts_the_answer(llm: LLM) -> None:
    long = {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with Server(llm, port=0) as server:
        before, gateway = server.worker, server.app.state.gateway
        assert before is not None
        with server_link(server, long) as stream:
            assert stream.readline().startswith(b"HTTP/1.1 200")
            closing = threading.Thread(target=before.close)
            closing.start()
            attach(gateway, EngineWorker(server._engine(llm)))
            text = stream.read()
            closing.join()
        assert b"[DONE]" not in text or before.stats().generated_tokens >= 200


def test_spans_carry_the_conventions_names(llm: LLM) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    spans = Spans(provider)
    note = {"model": "tiny", "prompt_tokens": 7, "completion_tokens": 3}
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    spans(Told("n", "POST", "/v1/messages", 200, 10**18, 0.5, note, parent))
    spans(Told("n", "GET", "/v1/models", 200, 10**18, 0.5, {}, ""))
    (span,) = kept.get_finished_spans()
    assert span.name == "chat tiny" and span.attributes is not None and span.parent is not None
    assert span.attributes["gen_ai.usage.output_tokens"] == 3 and span.attributes["gen_ai.request.model"] == "tiny"
    assert span.end_time is not None and span.start_time is not None and span.end_time - span.start_time == 5 * 10**8
    assert format(span.parent.trace_id, "032x") in parent


def test_small_writes_leave_at_once() -> None:
    """Nagle's delay would hold each small answer back until the one before is acknowledged: 40 ms on Linux."""

    async def accepted() -> int:
        delays: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = writer.get_extra_info("socket")
            delays.set_result(link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0, tries=1) as listener:
            async with await asyncio.start_server(greet, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                off = await delays
                writer.close()
        return off

    assert asyncio.run(accepted()) == 1
