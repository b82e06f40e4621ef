"""`POST /admin/reload`: take the models' files up again while requests go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from hanok.core.errors import HanokError
from hanok.serve.body import json_body, read_body
from hanok.serve.catalogue import Catalogue
from hanok.serve.errors import ApiError
from hanok.serve.schema.common import Body

router = APIRouter()


class ReloadRequest(Body):
    """Which model to load again; none means all."""


@router.post("/admin/reload", openapi_extra=json_body(ReloadRequest))
async def reload(request: Request) -> Response:
    """Load models again from where they lie; what runs ends on the old one, and a bad directory changes nothing."""
    if not request.app.state.locked:
        raise ApiError(403, "reloading over HTTP needs a server with an API key; send SIGHUP to its process instead")
    work: Callable[[str | None], dict[str, str]] | None = request.app.state.reload
    if work is None:
        raise ApiError(503, "this application does not know where its models lie", code="loading")
    body = await read_body(request, ReloadRequest)
    catalogue: Catalogue = request.app.state.catalogue
    if body.model:
        catalogue.find(body.model)
    try:
        versions = await asyncio.to_thread(work, body.model)
    except HanokError as error:
        raise ApiError(409, f"nothing was changed: {error}", code="reload_failed") from None
    return Response(json.dumps({"status": "ok", "versions": versions}), media_type="application/json")
