"""The report in a real browser: from file://, with nothing fetched, nothing in the console, nothing too wide."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hanok.report import find_artifacts, write_report

from .conftest import Maker
from .test_report import HOSTILE

pytestmark = pytest.mark.browser
BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
UNDRAWN = "[...document.querySelectorAll('.canvas')].filter((canvas) => !canvas.querySelector('.main-svg')).length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    if binary is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        chromium = playwright.chromium.launch(executable_path=binary, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def page_file(whole: Maker, tmp_path: Path) -> Path:
    whole.scores("hostile", "grpo", {"copy": 0.5, "<b>": 0.5}, said=HOSTILE)
    return write_report(find_artifacts(whole.root), tmp_path / "out", title="시험", command=f"echo {HOSTILE}")


@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    [
        pytest.param(1280, "light", "en-US", marks=pytest.mark.slow),
        (390, "dark", "ko-KR"),
    ],
)
def test_opens_alone(browser: Any, page_file: Path, width: int, scheme: str, locale: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, locale=locale)
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    for _ in range(80):
        if page.evaluate(UNDRAWN) == 0:
            break
        page.evaluate("scrollBy({top: 900, behavior: 'instant'})")
        page.wait_for_timeout(40)
    assert page.evaluate(UNDRAWN) == 0
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "no sideways scrolling"
    assert page.evaluate("document.documentElement.lang") == locale[:2]
    heading = page.locator("#pretrain h2").inner_text()
    assert heading.startswith("Pre-training" if locale == "en-US" else "사전학습")
    page.click("#language")
    assert page.locator("#pretrain h2").inner_text() != heading
    page.click("#theme")
    page.locator("#pretrain button.log").first.click()
    page.wait_for_timeout(100)
    assert page.locator("#pretrain .canvas").first.evaluate("canvas => canvas.layout.yaxis.type") == "log"
    assert page.evaluate("window.hacked") is None
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [page_file.as_uri()]
    context.close()


def test_the_page_forbids_other_scripts(browser: Any, page_file: Path) -> None:
    """Control arm: a script that somebody slips into the file does not run, and without the policy it would."""
    evil = page_file.read_text(encoding="utf-8").replace("</body>", "<script>window.hacked = 1</script></body>")
    open_door = evil.replace("Content-Security-Policy", "X-Nothing")
    page = browser.new_page()
    for text, expected in ((evil, None), (open_door, 1)):
        page_file.write_text(text, encoding="utf-8")
        page.goto(page_file.as_uri())
        assert page.evaluate("window.hacked") == expected
    page.close()
