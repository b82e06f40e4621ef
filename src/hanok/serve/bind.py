"""The listening socket: which addresses are only ours, and the next port where one is taken."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from pathlib import Path

from hanok.core.errors import UsageError


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int, *, tries: int) -> socket.socket:
    """Return a bound socket on the port, or on the next free one among `tries`; port 0 takes any free one."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except OSError as error:
        raise UsageError(f"host {host!r} is no address of this machine: {error}") from None
    last = port if port == 0 else min(65535, port + tries - 1)
    for candidate in range(port, last + 1):
        # With the protocol named, asyncio turns Nagle's delay off: without, each small answer waits 40 ms for its ACK.
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere this option would share a port that is in use
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], candidate, *address[2:]))
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"cannot listen on {host} port {candidate}: {error.strerror}") from None
    taken = f"port {port} is" if last == port else f"ports {port} to {last} are"
    raise UsageError(f"{taken} taken on {host}; choose another with port=... (0 takes any free one)")


def listen_unix(path: Path) -> socket.socket:
    """Return a socket bound to a path, which must not exist and which its owner alone may open."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {path}: {error.strerror or error}") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address to open in a browser; an unspecified one is reached through loopback."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
