"""The application: every route, who may reach it, and one shape for every error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from hanok import __version__
from hanok.engine.worker import EngineWorker
from hanok.serve import chat, completions, errors, status
from hanok.serve.body import body_parts
from hanok.serve.gateway import Gateway
from hanok.serve.guard import LOCAL_ORIGIN, HostGuard, KeyGuard
from hanok.serve.page import Page, report_response
from hanok.serve.schema.chat import ChatRequest
from hanok.serve.schema.completion import CompletionRequest
from hanok.serve.served import Served

MAX_QUEUE = 128


def create_app(
    worker: EngineWorker | None,
    *,
    model_name: str,
    max_queue: int = MAX_QUEUE,
    api_key: str | None = None,
    report: Path | None = None,
    metrics_compat: str | None = None,
    allowed_hosts: Iterable[str] | None = None,
    examples: Sequence[str] = (),
) -> FastAPI:
    """Return the OpenAI-compatible application over an engine in its own thread.

    Without a worker every model route answers 503 until `attach` brings one. `allowed_hosts` None accepts any
    well-formed Host; a list accepts those names and the loopback ones. With a key, everything but the chat page and
    the health checks needs it. `examples` are offered on the chat page.
    """
    app = FastAPI(title="hanok", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    gateway = Gateway(model_name=model_name, max_queue=max_queue, metrics_compat=metrics_compat)
    app.state.gateway = gateway
    if worker is not None:
        attach(app, worker)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    for router in (chat.router, completions.router, status.router):
        app.include_router(router)
    shown = report if api_key is None else None  # a link cannot carry the key
    facts = {"needsKey": api_key is not None, "report": shown is not None, "examples": list(examples)}
    page = Page(gateway, facts)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page.response()

    if report is not None:

        @app.get("/report", include_in_schema=False)
        def report_page(request: Request) -> Response:
            return report_response(report)

    errors.install(app)
    if api_key is not None:
        app.add_middleware(KeyGuard, key=api_key)
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=LOCAL_ORIGIN,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key"],
        expose_headers=["retry-after"],
    )
    app.add_middleware(HostGuard, allowed=allowed_hosts)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI page, with the parts of bodies that are read by hand."""
    if app.openapi_schema is None:
        page = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = page.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(body_parts(ChatRequest, CompletionRequest))
        app.openapi_schema = page
    return app.openapi_schema


def attach(app: FastAPI, worker: EngineWorker) -> None:
    """Give a loading application its engine: from now on it is ready."""
    engine = worker.engine
    gateway: Gateway = app.state.gateway
    served = Served(engine.llm, gateway.model_name, engine.config.numerics)
    gateway.attach(worker, served, max_sequences=engine.config.max_sequences)
