"""The application: every route, who may reach it, and one shape for every error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from hanok import __version__
from hanok.engine.worker import EngineWorker
from hanok.serve import admin, chat, completions, embeddings, errors, messages, responses, status, tokenize
from hanok.serve.body import body_parts
from hanok.serve.catalogue import Catalogue
from hanok.serve.config import ServeConfig
from hanok.serve.gateway import Gateway
from hanok.serve.guard import LOCAL_ORIGIN, HostGuard, KeyGuard
from hanok.serve.log import RequestLog, Told
from hanok.serve.page import Page, report_response
from hanok.serve.schema.chat import ChatRequest
from hanok.serve.schema.completion import CompletionRequest
from hanok.serve.schema.embeddings import EmbeddingsRequest
from hanok.serve.schema.messages import CountRequest, MessagesRequest
from hanok.serve.schema.responses import ResponsesRequest
from hanok.serve.schema.tokens import DetokenizeRequest, TokenizeRequest
from hanok.serve.served import Served, version_of

ROUTES = (chat, completions, embeddings, messages, responses, tokenize, status, admin)
BODIES = (
    *(ChatRequest, CompletionRequest, EmbeddingsRequest, MessagesRequest, CountRequest, ResponsesRequest),
    *(TokenizeRequest, DetokenizeRequest),
)


def create_app(names: Sequence[str], config: ServeConfig, *, tell: Sequence[Callable[[Told], None]] = ()) -> FastAPI:
    """Return the application over the models of these names, each with an engine in its own thread.

    Every model route answers 503 until `attach` brings the engine. With keys, everything but the chat page and the
    health checks needs one. `tell` hears of each request when it is over.
    """
    keys = config.keys
    app = FastAPI(title="hanok", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    catalogue = Catalogue(
        [Gateway(model_name=name, max_queue=config.max_queue, metrics_compat=config.metrics_compat) for name in names]
    )
    app.state.catalogue, app.state.gateway = catalogue, catalogue.first
    app.state.reload = None  # the server that knows where its models lie puts a function here
    app.state.locked = bool(keys)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    for module in ROUTES:
        app.include_router(module.router)
    report = config.report
    shown = None if keys else report  # a link cannot carry the key
    facts = {"needsKey": bool(keys), "report": shown is not None, "examples": list(config.examples)}
    page = Page(catalogue.first, facts)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page.response()

    if report is not None:

        @app.get("/report", include_in_schema=False)
        def report_page(request: Request) -> Response:
            return report_response(report)

    errors.install(app)
    if keys:
        app.add_middleware(KeyGuard, keys=keys)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.cors,
        allow_origin_regex=LOCAL_ORIGIN,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["retry-after", "x-request-id"],
    )
    app.add_middleware(HostGuard, allowed=config.hosts)
    app.add_middleware(RequestLog, tell=tell)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI page, with the parts of bodies that are read by hand."""
    if app.openapi_schema is None:
        page = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = page.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(body_parts(*BODIES))
        app.openapi_schema = page
    return app.openapi_schema


def attach(gateway: Gateway, worker: EngineWorker) -> str:
    """Give a gate its engine, and return the model's version; what ran on an earlier engine ends there."""
    engine = worker.engine
    served = Served(engine.llm, gateway.model_name, engine.config.numerics, version_of(engine.llm.model))
    gateway.attach(worker, served, max_sequences=engine.config.max_sequences)
    return served.version
