"""What the server says about itself: models, health, metrics, version."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from hanok import __version__
from hanok.serve.catalogue import Catalogue
from hanok.serve.errors import ApiError
from hanok.serve.gateway import REASONS
from hanok.serve.metrics import render
from hanok.serve.schema.common import ModelCard, ModelList

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> ModelList:
    """List the models that are served."""
    catalogue = _catalogue(request)
    catalogue.check()
    return ModelList(object="list", data=[gate.served().card() for gate in catalogue if gate.state == "ready"])


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> ModelCard:
    """Describe one model."""
    catalogue = _catalogue(request)
    catalogue.check()
    return catalogue.find(name).served().card()


@router.get("/health")
@router.get("/ready")
@router.get("/v1/health")
async def ready(request: Request) -> dict[str, str]:
    """Say whether requests to any model would be answered now: 200, or 503 while loading, draining, stalled or dead."""
    for gateway in _catalogue(request):
        if gateway.state == "loading":
            raise ApiError(503, "Loading model", code="loading", headers={"Retry-After": "1"})
        gateway.check()
        if gateway.health == "stalled":  # asked for here alone: what is sent all the same waits, and is not refused yet
            raise ApiError(503, REASONS["stalled"], code="stalled", headers={"Retry-After": "5"})
    return {"status": "ok"}


@router.get("/live")
async def live() -> dict[str, str]:
    """Say that the process answers, whatever the engine does."""
    return {"status": "ok"}


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Give the Prometheus text exposition."""
    text = render([gateway.metrics for gateway in _catalogue(request)])
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/version")
async def version() -> dict[str, str]:
    """Give the package's version."""
    return {"version": __version__}


def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.catalogue
    return catalogue
