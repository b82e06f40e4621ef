"""Foreign templates in their child process: bombs end with a clear error, honest ones are rendered as ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hanok.core.errors import UsageError
from hanok.text.chat import CHATS, load_chat
from hanok.text.template import keeper as keeping
from hanok.text.template.keeper import Keeper
from hanok.text.template.limits import Limits
from hanok.text.template.sandbox import compile_template, render_template
from hanok.text.tokenizer import Tokenizer

LONG = "{% set s = 'x' * 1000000 %}"
BOMBS = {
    "nested loops over a string": LONG + "{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "nested ranges": "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    "doubling a string": "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubling a list": "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "squaring a number": "{% set n = namespace(s=9) %}{% for i in range(60) %}{% set n.s = n.s * n.s %}{% endfor %}",
    "wordwrap": "{{ ('x ' * 2000000) | wordwrap(1) }}",
    "join": LONG + "{{ ([s] * 3000) | join(s) }}",
    "replace": LONG + "{{ s.replace('x', s) }}",
    "center": "{{ 'x' | center(4000000000) }}",
    "zfill": "{{ '1'.zfill(4000000000) }}",
    "a format's width": "{{ '{:>4000000000}'.format('x') }}",
    "the format filter": "{{ '%4000000000d' | format(1) }}",
    "lipsum": "{{ lipsum(n=100000000) }}",
    "batch": "{{ [1] | batch(4000000000, 'x') | list | length }}",
    "indented JSON": "{{ [[1]] | tojson(indent=2000000000) }}",
    "recursion that forks": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "output": "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
    "deep nesting": "{{ " + "(" * 100_000 + ")" * 100_000 + " }}",
    "many blocks": "{% if x %}" * 20_000,
}
AGAIN = {
    "nested ranges",
    "doubling a list",
    "wordwrap",
    "replace",
    "zfill",
    "the format filter",
    "batch",
}  # like others
TALK = [{"role": "user", "content": "안녕 <&> 12"}, {"role": "assistant", "content": "네\n"}]


@pytest.fixture(scope="module")
def kept() -> Iterator[Keeper]:
    made = Keeper(most=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def strict() -> Iterator[Keeper]:
    made = Keeper(Limits(cpu=0.25), most=1)
    yield made
    made.close()


@pytest.mark.parametrize(
    "name", [name if name not in AGAIN else pytest.param(name, marks=pytest.mark.slow) for name in BOMBS]
)
def test_a_bomb_is_stopped_and_the_next_conversation_is_served(strict: Keeper, name: str) -> None:
    with pytest.raises(UsageError, match=r"stopped|too deeply|fails on these messages|not valid Jinja") as caught:
        strict.render(BOMBS[name], [{"messages": TALK}])
    assert len(str(caught.value)) < 700 and " at 0x" not in str(caught.value)
    assert strict.render("{{ messages[0].content }}", [{"messages": TALK}]) == ["안녕 <&> 12"]


def test_control_without_a_bound_on_memory_the_bomb_goes_off() -> None:
    bomb = "{% set n = namespace(s='x' * 4000000) %}{% for i in range(5) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
    bomb += "{{ n.s | length }}"
    with pytest.raises(UsageError, match="more than 128 MB"):
        _once(Limits(cpu=None, memory=128 * 2**20), bomb)
    assert _once(Limits(cpu=None, memory=None), bomb) == ["128000000"]


@pytest.mark.slow
def test_control_without_a_bound_on_computing_only_the_clock_stops_it() -> None:
    bomb = BOMBS["nested loops over a string"]
    with pytest.raises(UsageError, match=r"computing|its process ended"):
        _once(Limits(), bomb)
    with pytest.raises(UsageError, match=r"took more than 3 s"):
        _once(Limits(cpu=None, wall=3.0), bomb)


def test_control_without_a_bound_on_output_it_is_all_there() -> None:
    source = "{% for i in range(3000) %}{{ 'x' * 1000 }}{% endfor %}"
    with pytest.raises(UsageError, match="it produces more than"):
        _once(Limits(), source)
    assert len(_once(Limits(output=2**22), source)[0]) == 3_000_000


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | map('upper') }}",
        "{{ [messages[0].keys] | string | upper }}",
        "{{ raise_exception ~ '' }}",
        "{{ cycler('a').next | string }}",
        "{{ '' ~ [messages[0].keys].__str__ }}{{ [range] }}",
    ],
)
def test_no_address_is_let_out(kept: Keeper, source: str) -> None:
    with pytest.raises(UsageError, match=r"address|not safely|stopped|refuses"):
        kept.render(source, [{"messages": TALK}])


def test_an_address_that_was_sent_may_come_back(kept: Keeper) -> None:
    content = "What is <function f at 0x7f00deadbeef>?"
    assert kept.render("{{ messages[0].content }}", [{"messages": [{"content": content}]}]) == [content]


def test_honest_text_goes_through_as_it_is(kept: Keeper) -> None:
    contents = ["", "한옥 🏠", "\ud83d", "\x00\u2028\ufdd0", "x" * 3_000_000, '"\\', "\r\n"]
    variables = {"messages": [{"content": content} for content in contents], "n": 1.5, "none": None, "yes": True}
    source = "{% for m in messages %}{{ m.content }}|{% endfor %}{{ n }}{{ none }}{{ yes }}"
    theirs = render_template(compile_template(source), variables, most=10**8, known="")
    assert kept.render(source, [variables]) == [theirs]
    with pytest.raises(UsageError, match="plain JSON values"):
        kept.render(source, [{"messages": [{"content": object()}]}])


def test_the_child_stays_warm_and_a_lost_one_is_replaced(kept: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(keeping.Child, "__init__", _counted(keeping.Child.__init__, started))
    kept.render("a", [{}])
    before = len(started)
    for _ in range(20):
        assert kept.render("a{{ 1 + 1 }}", [{}, {}]) == ["a2", "a2"]
    assert len(started) == before
    kept._idle[0]._process.kill()
    kept._idle[0]._process.wait()
    assert kept.render("a", [{}]) == ["a"] and len(started) == before + 1


@pytest.mark.slow
def test_one_that_is_stopped_holds_up_nobody_else() -> None:
    both = Keeper(Limits(cpu=None, wall=5.0), most=2)
    try:
        both.render("a", [{}])
        ended: list[str] = []

        def bomb() -> None:
            with pytest.raises(UsageError):
                both.render(BOMBS["nested loops over a string"], [{}])
            ended.append("bomb")

        thread = threading.Thread(target=bomb)
        thread.start()
        while both.warm:  # until the bomb has its child
            pass
        assert both.render("honest", [{}]) == ["honest"]
        assert not ended, "it was answered while the bomb went on"
        thread.join()
    finally:
        both.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_children_of_its_own(kept: Keeper) -> None:
    kept.render("a", [{}])
    pid = os.fork()
    if pid == 0:
        os._exit(0 if kept.render("b", [{}]) == ["b"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert kept.render("c", [{}]) == ["c"]


def test_without_child_processes_it_says_so_and_renders_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping.sys, "executable", "")
    keeping._say.cache_clear()
    assert _once(Limits(), "{{ a }}", {"a": "x"}) == ["x"]
    assert "no child processes" in caplog.text
    with pytest.raises(UsageError, match="stopped"):
        _once(Limits(), BOMBS["nested ranges"])


def test_where_a_bound_is_missing_it_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    start = keeping.Child.__init__

    def elsewhere(self: keeping.Child, limits: Limits) -> None:
        start(self, limits)
        self.held = []

    monkeypatch.setattr(keeping.Child, "__init__", elsewhere)
    keeping._say.cache_clear()
    assert _once(Limits(), "a") == ["a"]
    assert "no bound on cpu and memory" in caplog.text
    with pytest.raises(UsageError, match="stopped"):
        _once(Limits(cpu=0.5), BOMBS["nested loops over a string"])


def test_a_template_of_ours_starts_no_child(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(keeping.Keeper, "render", refuse)
    for name in CHATS:
        tokenizer.save(tmp_path)
        CHATS[name]().save(tmp_path)
        chat = load_chat(tmp_path, tokenizer)
        assert type(chat) is CHATS[name]
        assert chat.render(TALK)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(AssertionError, match="a child was started"):
        load_chat(tmp_path, tokenizer)


def test_the_child_sees_no_secret(kept: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fresh = Keeper(most=1)
    fresh.render("a", [{}])
    pid = fresh._idle[0]._process.pid
    environment = Path(f"/proc/{pid}/environ")
    if environment.exists():
        assert b"hf_secret" not in environment.read_bytes()
        opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert len(opened) == 3 and not any("socket" in name for name in opened), opened
    fresh.close()


def _once(limits: Limits, source: str, variables: dict[str, Any] | None = None) -> list[str]:
    made = Keeper(limits, most=1)
    try:
        return made.render(source, [variables or {}])
    finally:
        made.close()


def _counted(start: Any, started: list[int]) -> Any:
    def counting(self: keeping.Child, limits: Limits) -> None:
        started.append(1)
        start(self, limits)

    return counting
