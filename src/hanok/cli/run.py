"""`hanok run MODEL "prompt"`."""

from __future__ import annotations

import select
import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from hanok.cli.common import Json, Speculate, Weights, emit, speculation
from hanok.core.errors import UsageError
from hanok.core.json_file import MIB, read_text


def run(
    model: Annotated[str, cyclopts.Parameter(help="model folder or hub id")],
    prompt: Annotated[
        str | None, cyclopts.Parameter(help="the prompt; standard input is read when it is left out")
    ] = None,
    *,
    system: Annotated[str | None, cyclopts.Parameter(name=["--system", "-s"], help="system message")] = None,
    raw: Annotated[bool, cyclopts.Parameter(negative=(), help="continue the text instead of chatting")] = False,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    weights: Weights = None,
    speculate: Speculate = None,
    json_schema: Annotated[Path | None, cyclopts.Parameter(help="file of a schema that the answer follows")] = None,
    regex: Annotated[str | None, cyclopts.Parameter(help="expression that the whole answer matches")] = None,
    json: Json = False,
) -> None:
    """Answer one prompt and print the answer as it comes."""
    from hanok.engine.local import load
    from hanok.ops.native import prepare

    llm = load(model, weights=weights)
    prepare()
    text = "\n".join(part for part in (prompt, read_piped(wait=prompt is None)) if part)
    if not text:
        raise UsageError('nothing to answer: hanok run MODEL "prompt", or pipe text in')
    ask: str | list[dict[str, str]] = text
    if llm.tokenizer is None:
        raise UsageError(f"{model} has no tokenizer, so it cannot read text")
    if llm.chat is not None and not raw:
        messages = [{"role": "system", "content": system}] if system else []
        ask = [*messages, {"role": "user", "content": text}]
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    options |= {"speculation": speculation(speculate), "grammar": form(json_schema, regex)}
    if json:
        out = llm.generate(ask, **options)
        emit({"text": out.text, "finish_reason": out.finish_reason, "tokens": len(out.tokens)}, as_json=True)
        return
    for piece in llm.stream(ask, **options):
        sys.stdout.write(piece.text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def form(json_schema: Path | None, regex: str | None) -> dict[str, str] | None:
    """Return the grammar of an answer's form, None if any text will do."""
    if json_schema is not None and regex is not None:
        raise UsageError("--json-schema and --regex exclude each other")
    if json_schema is not None:
        return {"json_schema": read_text(json_schema, limit=MIB)}
    return None if regex is None else {"regex": regex}


def read_piped(*, wait: bool) -> str:
    """Return what was piped in; beside a prompt, only what is there already, as nothing may ever come."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    if not wait:
        try:
            ready, _, _ = select.select([sys.stdin], [], [], 0.0)
        except (OSError, ValueError):  # no real file behind it
            return ""
        if not ready:
            return ""
    return sys.stdin.read().strip()
