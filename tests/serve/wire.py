"""Plain HTTP for what the official client would never send."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, str], bytes]


def send(
    url: str,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Return (status, headers in lower case, body) of one request; a body that is no bytes is sent as JSON."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if data is not None else {}
    try:
        link.request(method or ("GET" if data is None else "POST"), path, data, {**sent, **(headers or {})})
        answer = link.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        link.close()


def open_request(url: str, path: str, body: Any, *, headers: dict[str, str] | None = None) -> socket.socket:
    """Send a request and return the socket without reading the answer."""
    parts = urlsplit(url)
    data = json.dumps(body).encode()
    link = socket.create_connection((parts.hostname, parts.port or 80), timeout=20)
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    link.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return link


def raw(url: str, text: bytes) -> bytes:
    """Send bytes as they are and return the first line of the answer."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=20) as link:
        link.sendall(text)
        return link.makefile("rb").readline().strip()


def error_of(answer: Answer) -> dict[str, Any]:
    """Return the error of an answer, which must have exactly OpenAI's four keys."""
    error: dict[str, Any] = json.loads(answer[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    return error
