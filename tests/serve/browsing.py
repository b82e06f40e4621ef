"""A headless Chromium that notes whatever a page should not do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
]


def launch(playwright: Playwright) -> Browser:
    """Return a browser, or skip the test where the machine has none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser here (looked for {', '.join(NAMES)})")
    return playwright.chromium.launch(executable_path=path, args=ARGS)


class Visit:
    """One open page with what it said, asked for and sent."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.trouble: list[str] = []
        self.foreign: list[str] = []
        self.sent: list[dict[str, Any]] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", self._request)

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.trouble.append(text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.foreign.append(request.url)
        if request.method == "POST":
            self.sent.append(json.loads(request.post_data))

    def open(self) -> Visit:
        """Load the page and wait until the model is known."""
        self.page.goto(self.url)
        self.page.wait_for_selector(".dot.ready")
        return self

    def done(self, turns: int) -> str:
        """Wait until the answer of the given number is complete and return its text."""
        answer = self.page.locator(".turn.assistant").nth(turns - 1)
        answer.locator(".acts button").first.wait_for(timeout=10_000)
        return answer.locator(".body").inner_text()

    def ask(self, text: str, turns: int = 1) -> str:
        """Send a message with Enter and return the answer."""
        self.page.fill("#box", text)
        self.page.press("#box", "Enter")
        return self.done(turns)


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """Open a page in a fresh profile; at the end it must have been quiet and have kept to its own server."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options})
    context.set_default_timeout(10_000)
    seen = Visit(context.new_page(), url)
    try:
        yield seen
        assert not seen.trouble and not seen.foreign, (seen.trouble, seen.foreign)
    finally:
        context.close()
