"""The chat page in a real browser: it looks right, does what it says, and asks nobody but its server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from hanok.engine.local import LLM
from hanok.serve import Server

from .browsing import launch, visit
from .conftest import KOREAN

pytestmark = pytest.mark.browser

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}

# The ratio of WCAG 2 between an element's text and what is behind it.
CONTRAST = """selector => {
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = colour => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => value / 255);
  };
  const linear = value => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const share = [0.2126, 0.7152, 0.0722];
  const light = colour => rgb(colour).map(linear).reduce((sum, value, at) => sum + value * share[at], 0);
  const node = document.querySelector(selector);
  let back = node;
  while (getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)") back = back.parentElement;
  const pair = [light(getComputedStyle(node).color), light(getComputedStyle(back).backgroundColor)];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""

UNNAMED = """() => [...document.querySelectorAll("button, input, textarea, a, dialog, nav, aside")]
  .filter(node => !(node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.textContent.trim()
    || (node.labels && node.labels.length)))
  .map(node => node.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture(scope="module")
def home(llm: LLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    report = tmp_path_factory.mktemp("report") / "report.html"
    report.write_text("<!doctype html><title>report</title><h1>What was trained</h1>")
    with Server(llm, port=0, model_name="tiny <b>model</b>", report=report, examples=("한옥이 뭐야?",)) as running:
        yield running


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_it_loads_quietly_fits_and_answers(browser: Browser, home: Server, size: str, scheme: str) -> None:
    with visit(browser, home.url, viewport=SIZES[size], color_scheme=scheme) as seen:
        page = seen.open().page
        assert page.inner_text("#model") == "tiny <b>model</b>" and page.locator("#model b").count() == 0
        page.click(".chip")
        assert KOREAN[:20] in seen.done(1) and page.is_hidden("#welcome")
        assert page.inner_text("#count").endswith("/ 256")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
        for selector in ("h1", ".turn.user .body", ".turn.assistant .body", ".stats", ".hint", "#lang", ".figures"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector
        assert page.evaluate(UNNAMED) == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(251, 250, 247)") == (scheme == "light")
        if size == "phone":
            page.click("#side-open")
            page.click(".chat-row >> nth=0")
            assert page.locator(".app.drawer").count() == 0


def test_regenerate_edit_and_branches(browser: Browser, home: Server) -> None:
    with visit(browser, home.url) as seen:
        page = seen.open().page
        seen.ask("What is 7 + 5?")
        assert page.inner_text(".think summary") == "Thoughts" and page.locator(".think div").is_hidden()
        page.click(".think summary")
        assert "twelve" in page.inner_text(".think div")
        page.click("[aria-label=Regenerate]")
        page.wait_for_selector("text=2 / 2")
        page.click("[aria-label='Previous version']")
        assert page.inner_text(".branch") == "1 / 2"
        page.hover(".turn.user .body")
        page.click(".turn.user [aria-label=Edit]")
        page.fill(".edit", "What is a hanok?")
        page.press(".edit", "Enter")
        page.wait_for_selector(".turn.user .branch >> text=2 / 2")
        seen.done(1)
        page.reload()
        page.wait_for_selector(".dot.ready")
        assert page.inner_text(".turn.user .body") == "What is a hanok?", "the conversation is kept"
        page.click(".turn.user [aria-label='Previous version']")
        assert (
            page.inner_text(".turn.user .body") == "What is 7 + 5?" and page.inner_text(".assistant .branch") == "2 / 2"
        )
        page.press("#box", "ArrowUp")
        assert page.input_value(".edit") == "What is 7 + 5?"
        page.press(".edit", "Escape")
        assert [len(body["messages"]) for body in seen.sent] == [1, 1, 1]


def test_settings_reach_the_model_and_probabilities_show(browser: Browser, home: Server) -> None:
    with visit(browser, home.url) as seen:
        page = seen.open().page
        page.click("#settings-open")
        page.fill("#set-system", "Be brief.")
        page.fill("#set-temperature", "0")
        page.fill("#set-topP", "0.9")
        page.fill("#set-maxTokens", "40")
        page.fill("#set-seed", "7")
        page.check("#set-probabilities")
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        seen.ask("한옥이 뭐야?")
        (body,) = seen.sent
        wanted = {"temperature": 0, "top_p": 0.9, "max_tokens": 40, "seed": 7, "logprobs": True, "top_logprobs": 5}
        assert wanted.items() <= body.items() and body["stream"] and body["stream_options"] == {"include_usage": True}
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert "\ufffd" not in page.inner_text(".tokens")
        page.hover(".tok >> nth=2")
        assert page.locator("#tip .tip-row.chosen").count() >= 1 and "%" in page.inner_text("#tip")
        page.hover("h1")
        assert page.is_hidden("#tip")


def test_stop_frees_the_engine(browser: Browser, home: Server) -> None:
    assert home.worker is not None
    engine = home.worker.engine
    step = engine.step
    with visit(browser, home.url) as seen:
        page = seen.open().page
        engine.step = lambda **how: (time.sleep(0.03), step(**how))[1]  # type: ignore[method-assign]
        try:
            page.fill("#box", "한옥이 뭐야?")
            page.press("#box", "Enter")
            page.wait_for_selector(".turn.assistant p")
            assert page.get_attribute("#send", "aria-label") == "Stop"
            page.keyboard.press("Escape")
            page.wait_for_selector(".stats >> text=stopped")
            assert len(page.inner_text(".turn.assistant .body")) < len(KOREAN)
            deadline = time.monotonic() + 2
            while home.worker.stats().pages_used and time.monotonic() < deadline:
                time.sleep(0.01)
            assert home.worker.stats().pages_used == 0
        finally:
            del engine.step
        assert seen.ask("What is 7 + 5?", 2)


def test_language_theme_and_shortcuts(browser: Browser, home: Server) -> None:
    with visit(browser, home.url, locale="ko-KR", color_scheme="light") as seen:
        page = seen.open().page
        assert page.inner_text("#welcome h2") == "무엇이든 물어보세요" and page.get_attribute("html", "lang") == "ko"
        for _ in range(2):
            assert "undefined" not in page.content().split("<script")[0]
            page.click("#lang")
        page.click("#lang")
        assert page.get_attribute("#box", "placeholder") == "Write a message"
        for theme in ("dark", "light", "auto"):
            page.click("#theme")
            assert page.get_attribute("html", "data-theme") == theme
        page.click("h1")
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "box"
        page.keyboard.press("Control+,")
        assert page.is_visible("#settings")
        page.keyboard.press("Escape")
        seen.ask("What is 7 + 5?")
        page.keyboard.press("Control+Shift+O")
        assert page.is_visible("#welcome") and page.locator(".chat-row").count() == 1


def test_export_import_and_hostile_text(browser: Browser, home: Server, tmp_path: Path) -> None:
    with visit(browser, home.url) as seen:
        page = seen.open().page
        seen.ask("What is a hanok?")
        assert page.locator(".turn.assistant strong").inner_text() == "rooms"
        with page.expect_download() as download:
            page.click("#export")
        data = json.loads(Path(download.value.path()).read_text())
        (chat,) = data["chats"]
        hostile = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) **b** `<script>`\n\n```html\n<b>x</b>\n```"
        answer = chat["nodes"][chat["leaf"]]
        answer.update(content=hostile, logprobs=[{"bytes": "no"}], count="<b>")
        chat["title"] = "<i>title</i>"
        file = tmp_path / "in.json"
        file.write_text(json.dumps(data))
        page.set_input_files("#file", file)
        page.wait_for_selector(".code")
        assert page.locator(".chat-row").count() == 2 and page.locator(".log img, .log b, .chat-row i").count() == 0
        assert page.locator(".log a").count() == 0 and page.inner_text(".log strong") == "b"
        file.write_text('{"chats": [{"id": 1}]}')
        page.set_input_files("#file", file)
        page.wait_for_selector("#notice >> text=not an export")
        page.on("dialog", lambda dialog: dialog.accept())
        page.hover(".chat-row >> nth=0")
        page.click(".chat-row >> nth=0 >> [aria-label=Delete]")
        assert page.locator(".chat-row").count() == 1


def test_tools_are_offered_called_and_answered(browser: Browser, home: Server, tmp_path: Path) -> None:
    with visit(browser, home.url) as seen:
        page = seen.open().page
        page.click("#settings-open")
        page.fill("#set-tools", "{")
        page.fill("#set-maxTokens", "8")
        page.keyboard.press("Escape")
        page.fill("#box", "What is 7 + 5?")
        page.press("#box", "Enter")
        page.wait_for_selector(".wrong >> text=no JSON list")
        assert seen.sent == []
        page.click("#settings-open")
        function = {"name": "f", "description": "xyz " * 200}
        page.fill("#set-tools", json.dumps(function))
        page.keyboard.press("Escape")
        page.click("[aria-label=Regenerate]")
        page.wait_for_selector(".wrong >> text=no longer fits")  # told of its tools, this model has no room left
        seen.trouble.clear()  # the refusal, which the browser's console tells of too
        assert seen.sent[0]["tools"] == [{"type": "function", "function": function}]
        node = {"id": "a", "parent": "u", "role": "assistant", "content": "", "thought": "Hm."}
        node["calls"] = [{"id": "c1", "name": "f.x", "arguments": '{"x":1}'}]
        asked = {"id": "u", "parent": None, "role": "user", "content": "What is 7 + 5?"}
        chat = {"id": "t", "title": "tools", "leaf": "a", "nodes": {"u": asked, "a": node}}
        (tmp_path / "in.json").write_text(json.dumps({"chats": [chat]}))
        page.set_input_files("#file", tmp_path / "in.json")
        page.wait_for_selector(".tool >> text=Call of f.x")
        assert page.inner_text(".tool pre") == '{\n  "x": 1\n}' and page.inner_text(".think summary") == "Thoughts"
        page.click("#settings-open")
        page.fill("#set-tools", "")
        page.keyboard.press("Escape")
        page.fill(".tool textarea", "twelve")
        page.click(".tool + .edit-foot .solid")
        seen.done(2)
        assert page.inner_text(".turn.tool summary") == "Result of f.x"
        call = {"id": "c1", "type": "function", "function": {"name": "f.x", "arguments": '{"x":1}'}}
        assert seen.sent[-1]["messages"][1:] == [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "twelve"},
        ]


def test_several_models_make_a_choice(browser: Browser, llm: LLM) -> None:
    with Server({"one": llm, "two": llm}, port=0) as pair, visit(browser, pair.url) as seen:
        page = seen.open().page
        page.select_option("#models", "two")
        seen.ask("What is 7 + 5?")
        assert seen.sent[0]["model"] == "two" and page.is_hidden("#model")
        page.reload()
        page.wait_for_selector(".dot.ready")
        assert page.input_value("#models") == "two"


def test_the_report_is_linked_and_served(browser: Browser, home: Server) -> None:
    with visit(browser, home.url) as seen:
        page = seen.open().page
        with page.expect_popup() as opened:
            page.click("#report")
        assert opened.value.inner_text("h1") == "What was trained"


def test_with_a_key_the_page_asks_for_it(browser: Browser, llm: LLM) -> None:
    with Server(llm, port=0, api_key="sesame") as locked, visit(browser, locked.url) as seen:
        page = seen.page
        page.goto(locked.url)
        page.wait_for_selector(".dot.down")
        assert page.is_hidden("#report")
        page.click("#settings-open")
        page.fill("#set-key", "sesame")
        page.keyboard.press("Tab")
        page.wait_for_selector(".dot.ready")
        page.keyboard.press("Escape")
        assert "12" in seen.ask("What is 7 + 5?")
