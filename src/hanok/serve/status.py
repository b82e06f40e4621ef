"""What the server says about itself: models, health, metrics, version."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from hanok import __version__
from hanok.serve.errors import ApiError
from hanok.serve.gateway import Gateway
from hanok.serve.schema.common import ModelCard, ModelList

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> ModelList:
    """List the one model that is served."""
    return ModelList(object="list", data=[_gateway(request).served().card()])


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> ModelCard:
    """Describe one model."""
    served = _gateway(request).served()
    served.check_name(name)
    return served.card()


@router.get("/health")
@router.get("/ready")
@router.get("/v1/health")
async def ready(request: Request) -> dict[str, str]:
    """Say whether requests would be answered now: 200, or 503 while loading, draining, stalled or dead."""
    gateway = _gateway(request)
    if gateway.state == "loading":
        raise ApiError(503, "Loading model", code="loading", headers={"Retry-After": "1"})
    gateway.check()
    return {"status": "ok"}


@router.get("/live")
async def live() -> dict[str, str]:
    """Say that the process answers, whatever the engine does."""
    return {"status": "ok"}


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Give the Prometheus text exposition."""
    return Response(_gateway(request).metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/version")
async def version() -> dict[str, str]:
    """Give the package's version."""
    return {"version": __version__}


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway
