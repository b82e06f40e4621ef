"""The board in a real browser: it draws what is written, follows, can be used without a mouse, and asks nobody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from hanok.serve.board import BoardServer
from hanok.serve.board.watch import Watch

from .board.writing import line, record, write
from .browsing import launch, visit

pytestmark = pytest.mark.browser

SHOWN = "() => [...document.querySelectorAll('.charts:not(#others) .chart:not([hidden])')].map(n => n.dataset.key)"
NAMELESS = """() => [...document.querySelectorAll("button, input, select, summary, a, svg[role], progress")]
  .filter(node => node.checkVisibility() && !(node.getAttribute("aria-label") || node.textContent.trim()
    || (node.labels && node.labels.length))).map(node => node.outerHTML.slice(0, 90))"""
# The smallest ratio of WCAG 2 between a text and what is behind it.
CONTRAST = """() => {
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = colour => {
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => value / 255);
  };
  const linear = value => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const share = [0.2126, 0.7152, 0.0722];
  const light = colour => rgb(colour).map(linear).reduce((sum, value, at) => sum + value * share[at], 0);
  const ratio = node => {
    let back = node;
    while (getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)") back = back.parentElement;
    const ink = node.tagName === "text" ? getComputedStyle(node).fill : getComputedStyle(node).color;
    const pair = [light(ink), light(getComputedStyle(back).backgroundColor)];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  };
  const texts = ".facts, .badge, .name, h2, h3, .read span, .plot text, .hint, .state, .roots";
  return Math.min(...[...document.querySelectorAll(texts)]
    .filter(node => node.checkVisibility()).map(ratio));
}"""
STROKES = """() => [...document.querySelectorAll(".chart[data-key=loss] .curve:not(.raw)")]
  .map(node => node.getAttribute("d").split(/[ML]/).length - 1)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def board(root: Path) -> Iterator[BoardServer]:
    with BoardServer([root], port=0, watch=Watch([root], pulse=0.03, search=0.05)) as running:
        yield running


def two_runs(root: Path) -> Path:
    """One run that goes on, one that is finished; the second knows no memory and has samples."""
    first = write(root / "pretrain-0a.partial", 1, 12)
    with (first / "metrics.jsonl").open("a") as file:
        file.write(line({"step": 12, "val/loss": 3.0, "val/bpb": 1.5}))
        file.write(line(record(13, **{"train/loss": float("nan"), "train/skipped": 1})) + '{"step": 14, "tra')
    second = root / "sft-0b"
    second.mkdir()
    rows = [{"step": n, "loss": 2 + 1 / n, "grad_norm": 2.0, "step_time": 0.1, "entropy": 0.5} for n in range(1, 9)]
    (second / "metrics.jsonl").write_text("".join(map(line, rows)))
    (second / "artifact.json").write_text("{}")
    asked = [{"role": "user", "content": "버낮지 + (을/를)"}]
    hostile = "<img src=x onerror=alert(1)><b>를</b>"
    (second / "samples.jsonl").write_text(line({"step": 8, "prompt": asked, "completion": hostile, "reward": 1.5}))
    return first


def opened(page: Page, url: str) -> Page:
    page.goto(url)
    page.wait_for_selector(".chart:not([hidden]) .curve", state="attached")
    return page


def until(page: Page, points: list[int]) -> None:
    """Wait until the curves of the loss have so many points; the page's policy forbids Playwright's own waiting."""
    end = time.monotonic() + 60
    while (found := page.evaluate(STROKES)) != points:
        assert time.monotonic() < end, f"{found} points, not {points}"
        page.wait_for_timeout(20)


@pytest.mark.parametrize(
    ("width", "locale", "scheme"),
    [
        (1280, "en-US", "light"),
        (390, "ko-KR", "dark"),
        pytest.param(1280, "en-US", "dark", marks=pytest.mark.slow),
        pytest.param(390, "ko-KR", "light", marks=pytest.mark.slow),
    ],
)
def test_looks_right(browser: Browser, board: BoardServer, root: Path, scheme: str, width: int, locale: str) -> None:
    two_runs(root)
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": locale}
    with visit(browser, board.url, **options) as seen:
        page = opened(seen.page, board.url)
        assert page.evaluate(SHOWN) == [
            *("loss", "val", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_bytes", "skipped")
        ]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "no sideways scrolling"
        assert page.evaluate("document.documentElement.lang") == locale[:2]
        title = page.inner_text(".chart[data-key=loss] h3")
        assert title == {"en": "Training loss", "ko": "학습 손실"}[locale[:2]]
        page.click("#lang")
        assert page.inner_text(".chart[data-key=loss] h3") != title
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(CONTRAST) >= 4.5
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_what_is_known_is_said(browser: Browser, board: BoardServer, root: Path) -> None:
    two_runs(root)
    with visit(browser, board.url) as seen:
        page = opened(seen.page, board.url)
        facts = page.inner_text(".run >> nth=0").replace("\u00a0", " ")
        for part in ("pretrain-0a", "live", "Step 13 / 40", "loss 4.4", "20 k tok/s", "40 %", "1.5 GiB", "0:01 left"):
            assert part in facts, facts
        assert "finished" in page.inner_text(".run >> nth=1")
        assert page.locator("#said img, #said b").count() == 0 and "<b>를</b>" in page.inner_text("#said")
        assert "버낮지" in page.inner_text("#said .asked")
        label = page.get_attribute(".chart[data-key=loss] svg", "aria-label") or ""
        assert "pretrain-0a: last 4.4, from 4.4 to 4.95." in label
        page.click(".chart[data-key=val] summary")
        assert "val/bpb 1.5 1.5 1.5 1.5" in " ".join(page.inner_text(".chart[data-key=val] table").split())
        page.click("#more summary")
        page.wait_for_selector(".chart[data-key=entropy] .curve", state="attached")  # flat: of no height


def test_follows_runs_as_they_are_written(browser: Browser, board: BoardServer, root: Path) -> None:
    with visit(browser, board.url) as seen:
        page = seen.page
        page.goto(board.url)
        page.wait_for_selector("#empty:not([hidden])")
        folder = write(root / "a.partial", 1, 5)
        until(page, [5])
        write(folder, 6, 9)
        until(page, [9])
        write(root / "b", 1, 3)
        until(page, [9, 3])
        (folder / "metrics.jsonl").unlink()  # killed, and resumed from an early checkpoint
        write(folder, 1, 4)
        until(page, [4, 3])
        folder = folder.rename(root / "a")
        write(folder, 5, 6)
        (folder / "artifact.json").write_text("{}")
        until(page, [6, 3])
        page.wait_for_selector(".badge.done")
        assert page.locator(".run").count() == 2


def test_reads_without_a_mouse(browser: Browser, board: BoardServer, root: Path) -> None:
    two_runs(root)
    with visit(browser, board.url) as seen:
        page = opened(seen.page, board.url)
        read, keys = page.locator(".chart[data-key=loss] .read"), page.keyboard
        page.uncheck("#runs li:nth-child(2) input")
        until(page, [13 - 1])
        page.fill("#smoothing", "0")
        page.locator("#charts").focus()
        keys.press("Tab")
        assert page.evaluate("document.activeElement.closest('.chart').dataset.key") == "loss"
        keys.press("Home")
        assert read.inner_text().split() == ["Step", "1", "4.95"]
        keys.press("ArrowRight")
        assert read.inner_text().split() == ["Step", "2", "4.9"]
        keys.press("End")
        keys.press("ArrowLeft")
        assert read.inner_text().split() == ["Step", "11", "4.45"]
        keys.press("Escape")
        assert read.inner_text().split() == ["4.4"]


def test_dials(browser: Browser, board: BoardServer, root: Path) -> None:
    two_runs(root)
    curve = ".chart[data-key=loss] .curve:not(.raw) >> nth=0"
    with visit(browser, board.url) as seen:
        page = opened(seen.page, board.url)
        paths = [page.get_attribute(curve, "d")]
        for act in (
            lambda: page.fill("#smoothing", "0.95"),
            lambda: page.check("#log"),
            lambda: page.select_option("#across", "seconds"),
        ):
            act()
            paths.append(page.get_attribute(curve, "d"))
        assert len(set(paths)) == 4, "each dial redraws the curve"
        page.reload()
        page.wait_for_selector(curve, state="attached")
        assert page.input_value("#smoothing") == "0.95" and page.is_checked("#log"), "dials outlast a visit"
        page.click("#all")
        assert page.locator(".run.off").count() == 2 and page.evaluate(SHOWN) == []


@pytest.mark.slow
def test_a_long_run_stays_quick(browser: Browser, board: BoardServer, root: Path) -> None:
    write(root / "long", 1, 20_000)
    with visit(browser, board.url) as seen:
        began = time.monotonic()
        page = opened(seen.page, board.url)
        assert time.monotonic() - began < 30
        (points,) = page.evaluate(STROKES)
        assert points < 3000, "two points a column of the screen at most"
