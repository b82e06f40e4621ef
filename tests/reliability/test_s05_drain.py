"""S5: on SIGTERM what runs is finished, what comes is refused, and the port closes last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server

from .probe import PATIENCE, TEXT, Neighbour, error_of, gate, send, until

BODY = {"prompt": "a", "max_tokens": 2}


@pytest.mark.parametrize("grace", [PATIENCE, 0.0])
def test_streams_are_finished_within_the_grace_and_told_beyond_it(llm: LLM, grace: float) -> None:
    server = Server(llm, port=0, model_name="tiny", engine={"max_sequences": 4, "numerics": "exact"})
    server.start()
    quiet = Neighbour(server, {"max_tokens": 100}).wait()
    streams = [Neighbour(server, {"max_tokens": 100 if grace else 500}) for _ in range(6 if grace else 4)]
    until(lambda: all(stream.chunks for stream in streams), "all answers have begun")
    ending = threading.Thread(target=lambda: server.stop(grace=grace))
    ending.start()
    until(lambda: gate(server).draining, "it drains")
    if grace:
        answer = send(server.url, TEXT, BODY)
        assert answer[0] == 503 and error_of(answer)["code"] == "draining" and "retry-after" in answer[1]
        assert send(server.url, "/ready")[0] == 503 and send(server.url, "/live")[0] == 200
    contents = [stream.wait() for stream in streams]
    ending.join(PATIENCE)
    assert not ending.is_alive()
    if grace:
        assert all(stream.done for stream in streams) and all(content == quiet for content in contents)
    else:
        cut = [content for stream, content in zip(streams, contents, strict=True) if not stream.done]
        assert cut and all("shutting down" in str(content[-1]) for content in cut), "said, and not just hung up"
    with pytest.raises(OSError):
        send(server.url, "/live")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGTERM")
def test_sigterm_with_fifty_streams(llm: LLM, tmp_path: Path) -> None:
    llm.save(tmp_path / "tiny")
    command = [sys.executable, "-m", "hanok", "serve", str(tmp_path / "tiny"), "port=0", "engine.numerics=exact"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    url = next(line.split()[1].rstrip("/") for line in lines if "chat  " in line)
    rest: list[str] = []
    reading = threading.Thread(target=lambda: rest.extend(lines))
    reading.start()

    class There:
        def __init__(self) -> None:
            self.url = url

    streams = [Neighbour(There()) for _ in range(50)]  # type: ignore[arg-type]
    until(lambda: all(stream.chunks for stream in streams[:40]), "the answers begin")
    process.send_signal(signal.SIGTERM)
    contents = [stream.wait() for stream in streams]
    assert process.wait(PATIENCE) == 0, rest
    reading.join(PATIENCE)
    process.stderr.close()
    assert all(stream.done for stream in streams) and all(content == contents[0] for content in contents)
