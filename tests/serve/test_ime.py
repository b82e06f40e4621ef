"""Enter while a Korean syllable is being composed sends the whole message once: not twice, not after a second Enter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from hanok.serve import Server

from .browsing import launch, visit

pytestmark = pytest.mark.browser

# Plays events on the box `#box`: ["type", text], ["start"], ["down", composing, keyCode], ["end", data], ["up"].
PLAY = """async steps => {
  const box = document.getElementById("box");
  const usual = {key: "Enter", bubbles: true, cancelable: true};
  const key = (type, more) => box.dispatchEvent(new KeyboardEvent(type, {...usual, ...more}));
  for (const [kind, first, second] of steps) {
    if (kind === "type") { box.value = first; box.dispatchEvent(new InputEvent("input", {bubbles: true})); }
    if (kind === "start") box.dispatchEvent(new CompositionEvent("compositionstart", {bubbles: true}));
    if (kind === "end") box.dispatchEvent(new CompositionEvent("compositionend", {data: first, bubbles: true}));
    if (kind === "down") key("keydown", {isComposing: first, keyCode: second});
    if (kind === "up") key("keyup", {keyCode: 13});
    if (kind === "wait") await new Promise(done => setTimeout(done, 5));
  }
  await new Promise(done => setTimeout(done, 60));
}"""

TYPED = [["start"], ["type", "안녕하세요"]]
ORDERS: dict[str, tuple[list[list[Any]], int]] = {
    # What browsers do with one press of Enter, and how many messages it should send.
    "chrome, Enter told again": ([*TYPED, ["down", True, 229], ["end", "요"], ["down", False, 13], ["up"]], 1),
    "chrome, told again later": (
        [*TYPED, ["down", True, 229], ["end", "요"], ["wait"], ["down", False, 13], ["up"]],
        1,
    ),
    "windows, told once": ([*TYPED, ["down", True, 229], ["end", "요"], ["up"]], 1),
    "safari, end before Enter": ([*TYPED, ["end", "요"], ["down", False, 229], ["up"]], 1),
    "input after the end": (
        [*TYPED, ["down", True, 229], ["end", "요"], ["type", "안녕하세요"], ["down", False, 13]],
        1,
    ),
    "no composition": ([["type", "hello"], ["down", False, 13], ["up"]], 1),
    "japanese candidate": ([["start"], ["type", "日本"], ["down", True, 229], ["end", "日本"], ["up"]], 0),
    "safari, japanese": ([["start"], ["type", "日本"], ["end", "日本"], ["down", False, 229], ["up"]], 0),
    "candidate, then Enter": (
        [["start"], ["type", "日本"], ["down", True, 229], ["end", "日本"], ["up"], ["down", False, 13], ["up"]],
        1,
    ),
    "held down": ([["type", "hello"], ["down", False, 13], ["down", False, 13], ["down", False, 13], ["up"]], 1),
}

NAIVE = """<textarea id="box"></textarea><script>
  window.sent = [];
  const box = document.getElementById("box");
  box.addEventListener("keydown", event => {
    if (event.key !== "Enter" || (GUARD && event.isComposing)) return;
    event.preventDefault();
    sent.push(box.value);
    box.value = "요";  // what the input method leaves behind when the box is emptied under it
  });
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """One page for all orders of events; each starts a new chat."""
    with visit(browser, server.url) as seen:
        yield seen.open().page


@pytest.mark.parametrize("name", ORDERS)
def test_enter_sends_exactly_as_often_as_it_should(page: Page, name: str) -> None:
    steps, wanted = ORDERS[name]
    page.click("#new")
    page.fill("#box", "")
    page.evaluate(PLAY, steps)
    if wanted:
        page.wait_for_selector(".turn.assistant .acts button")
    turns = page.locator(".turn.user .body").all_inner_texts()
    assert turns == [next(step[1] for step in steps if step[0] == "type")] * wanted
    assert bool(page.input_value("#box")) == (wanted == 0)


def test_real_composition_through_the_browser(page: Page) -> None:
    page.click("#new")
    page.focus("#box")
    page.keyboard.type("집 ")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Input.imeSetComposition", {"text": "요", "selectionStart": 1, "selectionEnd": 1})
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229, "nativeVirtualKeyCode": 229}
    devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    devtools.send("Input.insertText", {"text": "요"})
    devtools.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    page.wait_for_selector(".turn.assistant .acts button")
    assert page.locator(".turn.user .body").all_inner_texts() == ["집 요"]
    assert page.input_value("#box") == ""


def test_control_the_usual_handlers_send_twice_or_not_at_all(browser: Browser) -> None:
    for guard, order, sent in (("false", "chrome, Enter told again", 2), ("true", "windows, told once", 0)):
        page = browser.new_page()
        page.set_content(NAIVE.replace("GUARD", guard))
        page.evaluate(PLAY, ORDERS[order][0])
        assert len(page.evaluate("sent")) == sent
        page.close()
