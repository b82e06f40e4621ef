"""Who may come in: every route but the public ones needs the key; a Host must be ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.routing import Route

from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.serve import ServeConfig, Server
from hanok.serve.guard import PUBLIC

from .wire import error_of, raw, send

KEY = "correct horse"
ROUTES = {
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/models", "/v1/models/{name:path}", "/v1/responses", "/tokenize", "/detokenize", "/admin/reload"),
    *("/health", "/v1/health", "/ready", "/live", "/metrics", "/version", "/openapi.json", "/"),
}
TRICKS = [
    "/v1/models/",
    "//v1/models",
    "/v1/../v1/models",
    "/v1%2fmodels",
    "/V1/models",
    "/x",
    "/metrics?",
    "/;/metrics",
]


@pytest.fixture(scope="module")
def locked(llm: LLM) -> Iterator[Server]:
    with Server(llm, port=0, model_name="tiny", api_key=KEY) as running:
        yield running


def routes(server: Server) -> list[str]:
    paths = [route.path for route in server.app.routes if isinstance(route, Route)]
    for router in (getattr(route, "original_router", None) for route in server.app.routes):
        paths += [route.path for route in router.routes] if router is not None else []
    assert set(paths) >= ROUTES, paths
    return paths


def test_without_the_key_every_route_but_the_public_ones_is_closed(locked: Server) -> None:
    paths = [path.replace("{name:path}", "tiny") for path in routes(locked)]
    for path in [*paths, *TRICKS]:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
            answer = send(locked.url, path, method=method)
            if path in PUBLIC:
                assert answer[0] in (200, 405), (method, path)
            else:
                assert answer[0] == 401, (method, path, answer)
                assert answer[1]["www-authenticate"] == "Bearer"


def test_the_key_opens_and_a_wrong_one_does_not(locked: Server) -> None:
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}):
        assert send(locked.url, "/v1/models", headers=headers)[0] == 200
        assert send(locked.url, "/metrics", headers=headers)[0] == 200
    for wrong in ("", "correct", KEY + "x", "corréct", "Bearer"):
        answer = send(locked.url, "/v1/models", headers={"Authorization": f"Bearer {wrong}"})
        assert answer[0] == 401 and error_of(answer)["code"] == "invalid_api_key"
    assert send(locked.url, "/v1/models", headers={"Authorization": KEY})[0] == 401
    assert KEY not in repr(locked.config) and KEY not in str(locked.config.to_dict())


def test_control_without_a_key_everything_is_open(server: Server) -> None:
    for path in routes(server):
        assert send(server.url, path)[0] != 401
    assert send(server.url, "/v1/models", headers={"Authorization": "Bearer anything"})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "192.168.0.1"])
def test_a_foreign_host_name_is_refused_on_loopback(server: Server, host: str) -> None:
    for path in ("/", "/v1/models", "/health"):
        assert send(server.url, path, headers={"Host": host})[0] == 403
    assert send(server.url, "/health", headers={"Host": "localhost:8000"})[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Host: x/skip\r\n",
        b"Host: x?\r\n",
        b"Host: a b\r\n",
        b"Host: user@127.0.0.1\r\n",
        b"Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n",
        b"Host: 127.0.0.1:99999999\r\n",
    ],
)
def test_a_malformed_host_is_refused(server: Server, head: bytes) -> None:
    assert b" 400 " in raw(server.url, b"GET /health HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n") + b" "


def test_an_allowed_name_is_answered(llm: LLM) -> None:
    with Server(llm, port=0, allowed_hosts=("chat.example",)) as named:
        assert send(named.url, "/health", headers={"Host": "chat.example"})[0] == 200
        assert send(named.url, "/health", headers={"Host": "other.example"})[0] == 403


def test_pages_of_this_machine_may_call_and_others_may_not(server: Server) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    ours = send(server.url, "/v1/models", method="OPTIONS", headers={"Origin": "http://localhost:3000", **ask})
    assert ours[0] == 200 and ours[1]["access-control-allow-origin"] == "http://localhost:3000"
    for origin in ("https://evil.example", "http://localhost.evil.example", "null"):
        theirs = send(server.url, "/v1/models", method="OPTIONS", headers={"Origin": origin, **ask})
        assert theirs[0] == 400 and "access-control-allow-origin" not in theirs[1]


def test_an_address_for_everyone_needs_a_key_or_a_clear_word(llm: LLM) -> None:
    with pytest.raises(UsageError, match="api_key"):
        ServeConfig.parse({"host": "0.0.0.0"})
    assert ServeConfig.parse({"host": "0.0.0.0", "api_key": "x"}).keys == ("x",)
    with Server(llm, host="0.0.0.0", port=0, open=True) as everyone:
        assert "WARNING" in everyone.banner()
        assert everyone.url.startswith("http://127.0.0.1:")
    with pytest.raises(UsageError, match=r"did you mean 'port'"):
        Server(llm, prot=1)
