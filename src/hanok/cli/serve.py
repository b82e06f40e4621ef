"""`hanok serve MODEL...`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import OVERRIDE, ConfigFile, Overrides, Speculate, Weights, speculation
from hanok.core.errors import UsageError


def _whole(kind: object, value: str, **_: object) -> list[str]:
    return [value]  # a key from the environment may hold blanks


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Access:
    """Who may come in, how, and what is written down about it."""

    api_key: Annotated[
        tuple[str, ...],
        cyclopts.Parameter(
            env_var="HANOK_API_KEY", env_var_split=_whole, negative=(), help="ask clients for this key (repeatable)"
        ),
    ] = ()
    api_key_file: Annotated[Path | None, cyclopts.Parameter(help="a file of keys, one a line")] = None
    cors: Annotated[
        tuple[str, ...], cyclopts.Parameter(negative=(), help="an origin whose pages may call (repeatable; * for all)")
    ] = ()
    ssl_keyfile: Annotated[Path | None, cyclopts.Parameter(help="private key (PEM), for https")] = None
    ssl_certfile: Annotated[Path | None, cyclopts.Parameter(help="certificate chain (PEM), for https")] = None
    request_log: Annotated[
        bool | None, cyclopts.Parameter(negative=(), help="write a line per request, without contents or keys")
    ] = None
    otel: Annotated[bool | None, cyclopts.Parameter(negative=(), help="send OpenTelemetry spans")] = None

    def settings(self) -> dict[str, object]:
        """Return what was given, under the names of `ServeConfig`."""
        names = {"api_key": "api_keys"}
        given = {names.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value not in (None, ())}


def serve(
    model: Annotated[str, cyclopts.Parameter(help="model folder or hub id; several may follow, also as name=FOLDER")],
    *overrides: Overrides,
    host: str | None = None,
    port: int | None = None,
    access: Access = Access(),
    report: Annotated[Path | None, cyclopts.Parameter(help="a report.html to show at /report")] = None,
    workers: Annotated[int, cyclopts.Parameter(help="so many engines, each in a process, behind one port")] = 1,
    weights: Weights = None,
    speculate: Speculate = None,
    prefix_cache: Annotated[bool | None, cyclopts.Parameter(help="share work on common beginnings")] = None,
    config: ConfigFile = None,
) -> None:
    """Serve the OpenAI and Anthropic APIs and a chat page: `hanok serve MODEL --port 8000`."""
    from hanok.core.config import read_yaml, set_override
    from hanok.core.errors import require

    require("fastapi", extra="serve")
    from hanok.serve import ServeConfig
    from hanok.serve import serve as run

    settings = read_yaml(config) if config is not None else {}
    models = [model]
    for word in overrides:
        if OVERRIDE.match(word) and word.partition("=")[0].partition(".")[0] in ServeConfig.model_fields:
            set_override(settings, word)
        else:
            models.append(word)
    flags = {"host": host, "port": port, "report": report, "weights": weights}
    settings |= {name: value for name, value in flags.items() if value is not None} | access.settings()
    if speculate is not None:
        settings["engine"] = {**settings.get("engine", {}), "speculation": speculation(speculate)}
    if prefix_cache is not None:
        settings["engine"] = {**settings.get("engine", {}), "prefix_cache": prefix_cache}
    sources = named(models, settings.pop("model_name", None))
    if len(sources) > 1 and workers > 1:
        raise UsageError("--workers serves one model: start a server for each, or leave --workers out")
    if workers == 1:
        run(sources, ServeConfig.parse(settings))
    else:
        from hanok.serve.router.run import serve_many

        ((name, source),) = sources.items()
        serve_many(source, ServeConfig.parse({**settings, "model_name": name}), workers)


def named(models: list[str], name: str | None) -> dict[str, str]:
    """Return folders or hub ids by the names that clients call them by; `name` is for a single one."""
    sources: dict[str, str] = {}
    for word in models:
        given, equals, source = word.partition("=")
        if not equals or Path(word).exists():
            given, source = Path(word).resolve().name if Path(word).exists() else word, word
        if not given or not source:
            raise UsageError(f"{word!r}: a model is a folder, a hub id, or name=FOLDER")
        if given in sources:
            raise UsageError(f"two models are called {given!r}: name them with name=FOLDER")
        sources[given] = source
    if name is not None and len(sources) > 1:
        raise UsageError("model_name is for one model; name several as name=FOLDER")
    return {name: next(iter(sources.values()))} if name is not None else sources
