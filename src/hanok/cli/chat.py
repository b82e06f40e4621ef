"""`hanok chat MODEL`: talk in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from hanok.cli.common import Weights
from hanok.core.errors import UsageError

if TYPE_CHECKING:
    from hanok.engine.local import LLM

HELP = """\
/help                 this text            /bye               leave
/set NAME VALUE       temperature, top_p, max_tokens, seed
/system TEXT          set the system message (starts over)
/clear                forget the talk      /retry             answer again
/save FILE            write the talk       /load FILE         read one back
/show                 settings and length  \"\"\"                open and close a message of several lines"""
SETTINGS: dict[str, type] = {"temperature": float, "top_p": float, "max_tokens": int, "seed": int}


def chat(
    model: Annotated[str, cyclopts.Parameter(help="model folder or hub id")],
    *,
    system: Annotated[str | None, cyclopts.Parameter(name=["--system", "-s"], help="system message")] = None,
    temperature: float = 0.7,
    max_tokens: int = 256,
    weights: Weights = None,
) -> None:
    """Talk to a model in the terminal; /help lists the commands."""
    from hanok.engine.local import load
    from hanok.ops.native import prepare

    llm = load(model, weights=weights)
    prepare()
    if llm.chat is None:
        raise UsageError(f"{model} has no chat format; continue text with: hanok run {model} --raw 'text'")
    talk = Talk(llm, {"temperature": temperature, "max_tokens": max_tokens}, system)
    print(f"{model} · /help for commands, /bye to leave")
    while True:
        try:
            line = read_message()
            if line is None or not talk.take(line):
                return
        except KeyboardInterrupt:
            print("\n(stopped; /bye leaves)")
        except HanokMistake as mistake:
            print(mistake)


class HanokMistake(Exception):
    """A command that was mistyped: said, and the talk goes on."""


class Talk:
    """One conversation: its messages and settings."""

    def __init__(self, llm: LLM, options: dict[str, Any], system: str | None) -> None:
        self.llm, self.options = llm, options
        self.messages: list[dict[str, str]] = []
        self.begin(system)

    def begin(self, system: str | None) -> None:
        self.system = system
        self.messages = [{"role": "system", "content": system}] if system else []

    def take(self, line: str) -> bool:
        """Handle one message or command; return False to leave."""
        if line[:1] not in ("/", "!"):
            if line.strip():
                self.messages.append({"role": "user", "content": line})
                self.answer()
            return True
        name, _, rest = line[1:].strip().partition(" ")
        if name in ("bye", "exit", "quit"):
            return False
        commands = {
            "help": lambda: print(HELP),
            "clear": lambda: self.begin(self.system),
            "system": lambda: self.begin(rest or None),
            "set": lambda: self.set(rest),
            "show": lambda: print({**self.options, "messages": len(self.messages)}),
            "retry": self.retry,
            "save": lambda: self.save(rest),
            "load": lambda: self.load(rest),
        }
        if name not in commands:
            raise HanokMistake(f"unknown command /{name}; /help lists them")
        commands[name]()
        return True

    def answer(self) -> None:
        pieces = []
        for piece in self.llm.stream(self.messages, **self.options):
            sys.stdout.write(piece.text)
            sys.stdout.flush()
            pieces.append(piece.text)
        print()
        self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def retry(self) -> None:
        while self.messages and self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        if not self.messages or self.messages[-1]["role"] != "user":
            raise HanokMistake("there is nothing to answer again")
        self.options["seed"] = int(self.options.get("seed", 0)) + 1
        self.answer()

    def set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if name not in SETTINGS:
            raise HanokMistake(f"/set knows {', '.join(SETTINGS)}")
        try:
            self.options[name] = SETTINGS[name](value)
        except ValueError:
            raise HanokMistake(f"{value!r} is no value for {name}") from None

    def save(self, name: str) -> None:
        if not name:
            raise HanokMistake("/save needs a file name")
        Path(name).write_text(json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n", encoding="utf-8")

    def load(self, name: str) -> None:
        try:
            self.messages = json.loads(Path(name).read_text(encoding="utf-8"))["messages"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HanokMistake(f"cannot load {name!r}: {error}") from None


def read_message() -> str | None:
    """Read one message (several lines between triple quotes); None at the end of input."""
    try:
        line = input("> ")
    except EOFError:
        return None
    if not line.startswith('"""'):
        return line
    lines = [line[3:]]
    while not lines[-1].rstrip().endswith('"""'):
        try:
            lines.append(input("… "))
        except EOFError:
            break
    return "\n".join(lines).rstrip().removesuffix('"""')
