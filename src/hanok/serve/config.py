"""What a server can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import Field

from hanok.core.config import Config
from hanok.engine.config import EngineConfig
from hanok.serve.bind import is_loopback


class ServeConfig(Config):
    """Where to listen, who may come in, how much may wait, and how the engine runs.

    `ports` is how many ports from `port` on are tried; `open` allows an address that others can reach without a key;
    `examples` are offered on the chat page; `grace` is how many seconds running answers have to finish at shutdown.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    ports: int = Field(default=20, ge=1)
    model_name: str | None = Field(default=None, min_length=1, max_length=256)
    api_key: pydantic.SecretStr | None = Field(default=None, min_length=1)
    open: bool = False
    allowed_hosts: tuple[str, ...] = ()
    report: Path | None = None
    metrics_compat: Literal["vllm"] | None = None
    examples: tuple[str, ...] = ()
    max_queue: int = Field(default=128, ge=0)
    grace: float = Field(default=30.0, ge=0)
    engine: EngineConfig = EngineConfig()

    @pydantic.model_validator(mode="after")
    def _reachable_needs_a_key(self) -> Self:
        if not is_loopback(self.host) and self.api_key is None and not self.open:
            raise ValueError(
                f"host {self.host} can be reached from other machines: set api_key, or open=true to serve everyone"
            )
        return self

    @property
    def key(self) -> str | None:
        """The key in the clear."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The Host names that are answered; None for all, where a foreign name could do no harm."""
        if self.allowed_hosts or (is_loopback(self.host) and self.api_key is None):
            return self.allowed_hosts
        return None
