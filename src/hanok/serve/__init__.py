"""The server: OpenAI's endpoints and a chat page over an engine in its own thread."""

from hanok.serve.app import create_app
from hanok.serve.config import ServeConfig
from hanok.serve.server import Server, serve

__all__ = ["ServeConfig", "Server", "create_app", "serve"]
