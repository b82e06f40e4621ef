"""The server: OpenAI's endpoints and a chat page over an engine in its own thread; and the board over run folders.

Names are loaded when they are first used: the board must not wait for what the engine imports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hanok.serve.app import create_app as create_app
    from hanok.serve.config import ServeConfig as ServeConfig
    from hanok.serve.server import Server as Server
    from hanok.serve.server import serve as serve

_PUBLIC = {
    "ServeConfig": "hanok.serve.config",
    "Server": "hanok.serve.server",
    "create_app": "hanok.serve.app",
    "serve": "hanok.serve.server",
}
__all__ = ["ServeConfig", "Server", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hanok.serve' has no attribute {name!r}")
