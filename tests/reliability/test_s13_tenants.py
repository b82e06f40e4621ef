"""S13: what one tenant sends saves no other tenant any work, so that nobody can tell what others have asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.prefix import PrefixCache
from hanok.engine.request import Request
from hanok.serve import Server

from .probe import CHAT, TEXT, send, settle

LONG = [5 + at % 200 for at in range(300)]


def computed(engine: Engine, salt: str | None, prompt: list[int]) -> int:
    """Return how many tokens the engine computed for a request; what takes the time is this."""
    before = engine.stats().computed_tokens
    engine.generate([Request(prompt, 2, salt=salt, ignore_eos=True)])
    return engine.stats().computed_tokens - before


@pytest.mark.parametrize("probes", [8, pytest.param(2000, marks=pytest.mark.slow)])
def test_other_tenants_find_nothing(llm: LLM, probes: int) -> None:
    engine = Engine(llm, numerics="exact", num_pages=64, page_size=64)
    cold = computed(engine, "a", LONG)
    assert computed(engine, "a", LONG) < cold, "the cache works for the tenant itself"
    for number in range(probes):
        prompt = [(token + number) % 250 + 5 for token in LONG]
        computed(engine, "a", prompt)
        assert computed(engine, f"b{number}", prompt) == cold, "and costs another one what it costs when nobody asked"
    engine.check()


def test_control_without_the_salt_it_shows(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = PrefixCache._chain

    def unsalted(self: PrefixCache, sequence: Any) -> Any:
        object.__setattr__(sequence.request, "salt", None)
        return chain(self, sequence)

    monkeypatch.setattr(PrefixCache, "_chain", unsalted)
    engine = Engine(llm, numerics="exact", num_pages=64, page_size=64)
    assert computed(engine, "a", LONG) > computed(engine, "b", LONG)


def test_keys_are_tenants_at_the_server(llm: LLM) -> None:
    keys = ("first-key", "second-key")
    text = "the quick brown fox jumps over the lazy dog " * 6
    with Server(llm, port=0, api_keys=keys, engine={"numerics": "exact", "page_size": 64}) as server:
        assert server.worker is not None
        for path, body in ((TEXT, {"prompt": text}), (CHAT, {"messages": [{"role": "user", "content": text}]})):
            costs = []
            for key in (keys[0], keys[0], keys[1]):
                before = server.worker.stats().computed_tokens
                answer = send(server.url, path, {**body, "max_tokens": 2}, headers={"x-api-key": key})
                assert answer[0] == 200, answer
                settle(server)
                costs.append(server.worker.stats().computed_tokens - before)
            used = json.loads(answer[2])["usage"]["prompt_tokens"]
            assert costs[1] < costs[0] == costs[2] and used > 64, costs
