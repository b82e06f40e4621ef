"""One HTTP request whose answer is read as it arrives: over TCP, TLS or a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import h11

from hanok.core.errors import HanokError, UsageError

CONNECT = 10.0  # seconds for a connection
PIECE = 1 << 16
Headers = Iterable[tuple[bytes, bytes]]


class Unreachable(HanokError):
    """Nobody takes connections there: nothing was sent."""


class Broken(HanokError):
    """The connection ended before the answer did."""


@dataclass(frozen=True)
class Address:
    """Where a server listens: a host and port, or a Unix socket; `base` stands before every path."""

    host: str = "127.0.0.1"
    port: int = 80
    tls: bool = False
    base: str = ""
    uds: Path | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Return the address of `http(s)://host:port/base`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"a server's address is such as http://127.0.0.1:8000, not {url!r}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def host_header(self) -> bytes:
        """Return what a client calls the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host.encode() if self.port == (443 if self.tls else 80) else f"{host}:{self.port}".encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, or raise `Unreachable`."""
        try:
            async with asyncio.timeout(CONNECT):
                if self.uds is not None:
                    return await asyncio.open_unix_connection(self.uds)
                context = ssl.create_default_context() if self.tls else None
                return await asyncio.open_connection(self.host, self.port, ssl=context)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self.uds or f'{self.host}:{self.port}'}: {error or 'no connection'}") from None


@dataclass
class Answer:
    """A response whose head has come; `pieces` yields its body as it arrives, once."""

    status: int
    headers: list[tuple[bytes, bytes]]
    _connection: h11.Connection = field(repr=False)
    _reader: asyncio.StreamReader = field(repr=False)

    def header(self, name: bytes) -> bytes:
        """Return a header's value, or nothing."""
        return next((value for key, value in self.headers if key == name), b"")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; `Broken` where it ends too early."""
        while True:
            event = await _next(self._connection, self._reader)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def read(self, most: int = 64 << 20) -> bytes:
        """Return the whole body, of at most `most` bytes."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > most:
                raise Broken(f"the answer is longer than {most} bytes")
        return bytes(body)


@contextlib.asynccontextmanager
async def ask(
    address: Address, method: str, path: str, headers: Headers = (), body: bytes = b""
) -> AsyncIterator[Answer]:
    """Send one request over a connection of its own and give its answer; leaving the block hangs up.

    `headers` are sent as they are, behind a Host where they name none; the length of the body is added.
    """
    reader, writer = await address.connect()
    connection = h11.Connection(h11.CLIENT)
    given = [(name.lower(), value) for name, value in headers]
    if not any(name == b"host" for name, _ in given):
        given.insert(0, (b"host", address.host_header))
    if body or method not in ("GET", "HEAD"):
        given.append((b"content-length", str(len(body)).encode()))
    try:
        request = h11.Request(method=method, target=address.base + path, headers=[*given, (b"connection", b"close")])
        parts = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
        with contextlib.suppress(ConnectionError):  # whoever refuses early says so in the answer
            writer.write(b"".join(connection.send(part) or b"" for part in parts))
            await writer.drain()
        while not isinstance(event := await _next(connection, reader), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise Broken("the connection ended before an answer came")
        yield Answer(event.status_code, list(event.headers), connection, reader)
    except h11.LocalProtocolError as error:
        raise UsageError(f"this cannot be sent over HTTP: {error}") from None
    finally:
        writer.transport.abort()  # an answer half read is of no use to anybody: the other side hears of it at once
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Event:
    """Return the next event of a connection; what is no HTTP, or stops in the middle, is `Broken`."""
    while True:
        try:
            event = connection.next_event()
            if isinstance(event, h11.Event):
                return event
            if event is h11.PAUSED:  # nothing follows one answer
                return h11.ConnectionClosed()
            connection.receive_data(await reader.read(PIECE))
        except (h11.RemoteProtocolError, ConnectionError) as error:
            raise Broken(f"the answer broke off: {error}") from None
