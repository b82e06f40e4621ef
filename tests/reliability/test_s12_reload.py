"""S12: a model that is replaced while answers run: each comes whole from one version, and a bad one changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanok.core.errors import HanokError
from hanok.engine.local import LLM
from hanok.model.model import Model
from hanok.serve import Server

from .probe import TEXT, Neighbour, error_of, send, settle, until

BRIEF = {"max_tokens": 60}
ASK = {"prompt": "the fox", "max_tokens": 20, "ignore_eos": True, "temperature": 0, "logprobs": 2}


def answered(server: Server) -> tuple[str, str]:
    """Return (fingerprint, text) of an answer."""
    answer = json.loads(send(server.url, TEXT, ASK)[2])
    return answer["system_fingerprint"], json.dumps(answer["choices"])


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_each_answer_comes_from_one_version(llm: LLM, tmp_path: Path, count: int) -> None:
    other = LLM(Model(llm.model.config, seed=99), llm.tokenizer, llm.chat)
    folder = tmp_path / "m"
    llm.save(folder)
    with Server(folder, port=0, max_queue=200, engine={"max_sequences": 8, "numerics": "exact"}) as server:
        first, quiet = answered(server), Neighbour(server, BRIEF).wait()
        streams = [Neighbour(server, BRIEF) for _ in range(count)]
        until(lambda: any(stream.chunks for stream in streams), "the answers begin")
        other.save(folder)
        server.reload()
        second, changed = answered(server), Neighbour(server, BRIEF).wait()
        assert first[0] != second[0] and first[1] != second[1], "the new model answers, and says so"
        contents = [stream.wait() for stream in streams]
        assert all(stream.done for stream in streams)
        assert quiet != changed and all(content in (quiet, changed) for content in contents)
        assert quiet in contents, "what had begun was finished by the old model"
        (folder / "model.safetensors").write_bytes(b"\x00" * 100)
        with pytest.raises(HanokError):
            server.reload()
        assert answered(server) == second, "a model that cannot be read changes nothing"
        settle(server)


def test_reloading_over_http_needs_a_key(server: Server) -> None:
    answer = send(server.url, "/admin/reload", {})
    assert answer[0] == 403 and error_of(answer)["message"]
