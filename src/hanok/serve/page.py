"""The chat page: its parts from `ui/`, put together once into one document that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import Response

from hanok.serve.errors import ApiError
from hanok.serve.gateway import Gateway

STYLES = ("base.css", "chat.css", "panels.css")
SCRIPTS = (
    "strings.js",
    "store.js",
    "markdown.js",
    "tokens.js",
    "api.js",
    "message.js",
    "composer.js",
    "panels.js",
    "main.js",
)


class Page:
    """One HTML document with its styles and scripts inside, and a policy that lets nothing else run."""

    def __init__(self, gateway: Gateway, facts: Mapping[str, Any]) -> None:
        self._gateway = gateway
        self._facts = dict(facts)
        folder = resources.files("hanok.serve") / "ui"
        self._frame = (folder / "index.html").read_text(encoding="utf-8")
        self._style = "\n".join((folder / name).read_text(encoding="utf-8") for name in STYLES)
        scripts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
        self._script = f'"use strict";\n(() => {{\n{scripts}\n}})();\n'

    def response(self) -> Response:
        """Return the page as it is now: the model may have finished loading since it was last asked for."""
        facts = json.dumps({**self._facts, "model": self._gateway.model_name}, ensure_ascii=False)
        text = self._frame
        for mark, part in (
            ("/*STYLE*/", self._style),
            ("/*SCRIPT*/", self._script),
            ("{FACTS}", facts.replace("<", "\\u003c")),
            ("{MODEL}", html.escape(self._gateway.model_name)),
        ):
            text = text.replace(mark, part)
        headers = {
            "Content-Security-Policy": self._policy(),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(text, headers=headers, media_type="text/html")

    def _policy(self) -> str:
        return "; ".join(
            (
                "default-src 'none'",
                f"script-src '{_hash(self._script)}'",
                f"style-src '{_hash(self._style)}'",
                "connect-src 'self'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )


def report_response(path: Path) -> Response:
    """Return the report, which is one self-contained file that may run its own scripts and fetch nothing."""
    if not path.is_file():
        raise ApiError(404, "the report has not been written yet")
    policy = (
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(path.read_bytes(), headers={"Content-Security-Policy": policy}, media_type="text/html")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
