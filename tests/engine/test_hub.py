"""`hanok.load("org/name")` against a hub of this machine: what is fetched, from which revision, with whose token."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.engine.local import LLM
from hanok.model.weights import save_model

MB = 1 << 20
TOKEN = "hf_a-token-of-nobody"
# Loads one model after another and prints for each what it was, or the error that people would read.
PROGRAM = """
import json, sys
import hanok
from hanok.core.errors import UsageError

for source, revision in json.loads(sys.argv[1]):
    try:
        llm = hanok.load(source, revision=revision)
    except UsageError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    else:
        total = sum(float(tensor.double().sum()) for tensor in llm.model.state_dict().values())
        print(json.dumps({"vocab": llm.vocab_size, "total": total, "chat": llm.chat is not None}), flush=True)
"""


class Hub:
    """Repositories as {name: {revision: {path: bytes}}}, served as the hub's client expects them."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.cut: dict[str, int] = {}  # path -> bytes after which the connection breaks, once
        self.stall: dict[str, int] = {}  # path -> bytes after which nothing comes for a while, once
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        self.stalled = threading.Event()

    def files(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit and the files of a revision, which may be named by its commit."""
        for name, files in self.repos.get(repo, {}).items():
            commit = hashlib.sha1(f"{repo} {name}".encode()).hexdigest()
            if revision in (name, commit):
                return commit, files
        return None

    def fetched(self) -> set[str]:
        """Return the files whose bytes were asked for."""
        return {path.split("/resolve/")[1].partition("/")[2] for method, path, _ in self.asked if "/resolve/" in path}


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo, revision = (api[1], api[3]) if api else (file[1], file[2]) if file else ("", "")
        if repo in self.hub.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.send(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if repo not in self.hub.repos:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        found = self.hub.files(repo, revision)
        if found is None:
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        commit, files = found
        if api and api[2] == "revision":
            siblings = [{"rfilename": name} for name in files]
            return self.send(200, json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode())
        if api:
            tree = [{"type": "file", "path": n, "size": len(d), "oid": _oid(d)} for n, d in files.items()]
            return self.send(200, json.dumps(tree).encode())
        assert file is not None
        return self.send_file(commit, file[3], files)

    def send_file(self, commit: str, name: str, files: dict[str, bytes]) -> None:
        if name not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        data, headers = (
            files[name],
            {"X-Repo-Commit": commit, "ETag": f'"{_oid(files[name])}"', "Accept-Ranges": "bytes"},
        )
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            headers["Content-Range"] = f"bytes {start[1]}-{len(data) - 1}/{len(data)}"
            data = data[int(start[1]) :]
        if self.command == "GET" and (name in self.hub.cut or name in self.hub.stall):
            stalls = name in self.hub.stall
            part = data[: (self.hub.stall if stalls else self.hub.cut).pop(name)]
            self.send(206 if start else 200, part, headers, length=len(data))
            self.wfile.flush()
            if stalls:
                self.hub.stalled.set()
                time.sleep(20)
            self.close_connection = True
            return None
        return self.send(206 if start else 200, data, headers)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(length or len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Own(Handler):
        hub = Hub()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Own.hub.endpoint = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield Own.hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return what starts a new process, which reads the hub's environment variables, to load models."""

    def run(*wanted: tuple[str, str | None], **env: str) -> subprocess.Popen[str]:
        own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}  # type: ignore[attr-defined]
        own |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        command = [sys.executable, "-c", PROGRAM, json.dumps(wanted)]
        return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=clean | own | env)

    return run


def told(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def total_of(llm: LLM) -> float:
    return sum(float(tensor.double().sum()) for tensor in llm.model.state_dict().values())


@pytest.fixture
def stocked(hub: Hub, chatty: LLM, build: Callable[..., LLM], tmp_path: Path) -> Hub:
    """Return a hub with a plain, a sharded and a private model, and among their files those that nobody should run."""
    chatty.save(tmp_path / "plain")
    other = build("gqa")
    other.save(tmp_path / "other")
    save_model(other.model, tmp_path / "sharded", shard_bytes=20_000)
    evil = {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04.", "a.pt": b"", "README.md": b"# x"}
    copies = {"consolidated.safetensors": b"again", "onnx/model.safetensors": b"again", "model.gguf": b"again"}
    plain = files_of(tmp_path / "plain") | evil | copies
    hub.repos = {
        "org/plain": {"main": plain, "v1": files_of(tmp_path / "other")},
        "org/sharded": {"main": files_of(tmp_path / "sharded")},
        "org/private": {"main": files_of(tmp_path / "other")},
        "org/pickled": {"main": {"config.json": plain["config.json"], "pytorch_model.bin": b"\x80\x04."}},
    }
    hub.private = {"org/private"}
    return hub


def test_models_by_name_and_revision(stocked: Hub, start: Any, chatty: LLM, build: Any) -> None:
    names = ["org/plain", "org/sharded", "org/private", "org/nothing", "org/pickled"]
    found = told(start(*[(name, None) for name in names], ("org/plain", "v1"), ("org/plain", "v2")))
    plain, sharded, private, nothing, pickled, older, unknown = found
    assert plain == {"vocab": 300, "total": total_of(chatty), "chat": True}
    assert sharded == older == {"vocab": 97, "total": total_of(build("gqa")), "chat": False}
    for refused, name in ((private, "org/private"), (nothing, "org/nothing")):
        assert f"no directory {name!r}" in refused["error"] and "HF_TOKEN" in refused["error"]
    assert "*.bin" in pickled["error"] and "safetensors" in pickled["error"]
    assert "'org/plain'" in unknown["error"] and "v2" in unknown["error"]
    fetched = stocked.fetched()
    assert {"config.json", "model.safetensors", "model.safetensors.index.json", "chat_template.jinja"} <= fetched
    assert all(re.fullmatch(r"[\w.-]+\.(json|jinja)|model[\w.-]*\.safetensors", name) for name in fetched), fetched


@pytest.mark.slow
def test_what_was_fetched_is_there_without_network(stocked: Hub, start: Any) -> None:
    plain, older = told(start(("org/plain", None), ("org/plain", "v1")))
    asked = len(stocked.asked)
    commit = hashlib.sha1(b"org/plain main").hexdigest()
    calls = [("org/plain", None), ("org/plain", commit), ("org/plain", "v1"), ("org/nothing", None)]
    *cached, never = told(start(*calls, HF_HUB_OFFLINE="1"))
    assert cached == [plain, plain, older] and "offline" in never["error"] and len(stocked.asked) == asked


@pytest.mark.slow
def test_with_a_token_and_with_a_hub_that_is_away(stocked: Hub, start: Any, chatty: LLM, build: Any) -> None:
    plain = {"vocab": 300, "total": total_of(chatty), "chat": True}
    private = {"vocab": 97, "total": total_of(build("gqa")), "chat": False}
    assert told(start(("org/plain", None))) == [plain]
    asked = len(stocked.asked)
    assert told(start(("org/private", None), ("org/plain", None), HF_TOKEN=TOKEN)) == [private, plain]
    again = [path for method, path, _ in stocked.asked[asked:] if "/org/plain/" in path and "/resolve/" in path]
    assert not again, "what is in the cache is not fetched again"
    unreachable = told(start(("org/plain", None), ("org/nothing", None), HF_ENDPOINT="http://127.0.0.1:9"))
    assert unreachable[0] == plain and "cannot be reached" in unreachable[1]["error"]


@pytest.mark.slow
def test_an_interrupted_download_goes_on_where_it_stopped(hub: Hub, start: Any, build: Any, tmp_path: Path) -> None:
    """A killed process leaves nothing that passes for a model; a broken connection goes on behind what it brought.

    The client writes 10 MB at a time, so the file is larger.
    """
    large = build("gqa", torch.float32, vocab=300_000)
    large.save(tmp_path / "large")
    hub.repos = {"org/large": {"main": files_of(tmp_path / "large")}}
    hub.stall["model.safetensors"] = 15 * MB
    killed = start(("org/large", None))
    assert hub.stalled.wait(60)
    time.sleep(0.5)  # what was sent reaches the disk
    killed.kill()
    killed.communicate()
    offline = told(start(("org/large", None), HF_HUB_OFFLINE="1"))[0]
    assert "offline" in offline["error"], "half a model is none"
    hub.cut["model.safetensors"] = 12 * MB
    assert told(start(("org/large", None)))[0]["total"] == total_of(large)
    ranges = [where for method, path, where in hub.asked if method == "GET" and path.endswith("/model.safetensors")]
    assert re.fullmatch(r"bytes=[1-9]\d+-", ranges[-1] or ""), ranges
