"""The board: what runs on this machine write about themselves, drawn live in a browser; nothing here needs torch."""

from hanok.serve.board.server import BoardServer, show

__all__ = ["BoardServer", "show"]
