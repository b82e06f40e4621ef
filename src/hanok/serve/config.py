"""What a server can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import Field

from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.core.json_file import MIB, read_text
from hanok.engine.config import EngineConfig
from hanok.serve.bind import is_loopback


class ServeConfig(Config):
    """Where to listen, who may come in, how much may wait, and how the engine runs.

    `ports` is how many ports from `port` on are tried; `uds` listens on a Unix socket in their place; `open` allows an
    address that others can reach without a key; any of `api_key`, `api_keys` and the lines of `api_key_file` is a key.
    `cors` are origins whose pages may call (`*`: all; pages of this machine always may). `examples` are offered on the
    chat page; `grace` is how many seconds running answers have to finish at shutdown; `request_log` writes a line per
    request to standard error, and `otel` sends a span to where OpenTelemetry's environment variables say. `weights` is
    the format that products read the model's weights in (None: as stored).
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    ports: int = Field(default=20, ge=1)
    uds: Path | None = None
    model_name: str | None = Field(default=None, min_length=1, max_length=256)
    api_key: pydantic.SecretStr | None = Field(default=None, min_length=1)
    api_keys: tuple[pydantic.SecretStr, ...] = ()
    api_key_file: Path | None = None
    open: bool = False
    cors: tuple[str, ...] = ()
    ssl_keyfile: Path | None = None
    ssl_certfile: Path | None = None
    request_log: bool = False
    otel: bool = False
    allowed_hosts: tuple[str, ...] = ()
    report: Path | None = None
    weights: Literal["fp32", "bf16", "int8", "int4"] | None = None
    metrics_compat: Literal["vllm"] | None = None
    examples: tuple[str, ...] = ()
    max_queue: int = Field(default=128, ge=0)
    grace: float = Field(default=30.0, ge=0)
    engine: EngineConfig = EngineConfig()

    @pydantic.model_validator(mode="after")
    def _reachable_needs_a_key(self) -> Self:
        if not is_loopback(self.host) and not self.locked and not self.open:
            raise ValueError(
                f"host {self.host} can be reached from other machines: set api_key, or open=true to serve everyone"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _tls_needs_both(self) -> Self:
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("ssl_keyfile and ssl_certfile belong together: give both")
        for name in ("ssl_keyfile", "ssl_certfile"):
            file = getattr(self, name)
            if file is not None and not file.is_file():
                raise ValueError(f"{name}: there is no file {file}")
        return self

    @property
    def locked(self) -> bool:
        """Whether clients need a key."""
        return self.api_key is not None or bool(self.api_keys) or self.api_key_file is not None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the clear, those of the file (one a line, `#` begins a comment) read now."""
        given = [*([self.api_key] if self.api_key else []), *self.api_keys]
        keys = [key.get_secret_value() for key in given]
        if self.api_key_file is not None:
            lines = [line.strip() for line in read_text(self.api_key_file, limit=MIB).splitlines()]
            keys += [line for line in lines if line and not line.startswith("#")]
        if self.locked and not (keys and all(keys)):
            raise UsageError("api_key, api_keys or api_key_file hold an empty key, or none at all")
        return tuple(keys)

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The Host names that are answered; None for all, where a foreign name could do no harm."""
        if self.allowed_hosts or (is_loopback(self.host) and not self.locked):
            return self.allowed_hosts
        return None
