"""`POST /v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from fastapi import APIRouter, Request, Response
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.embed import Pooling, embed, text_ids
from hanok.engine.local import LLM
from hanok.ops.numerics import numerics
from hanok.serve.body import json_body
from hanok.serve.errors import ApiError
from hanok.serve.flow import admit, receive
from hanok.serve.schema.embeddings import Embedding, EmbeddingList, EmbeddingsRequest, EmbeddingUsage
from hanok.serve.served import Served
from hanok.serve.stream import while_listening

router = APIRouter()

BATCH = 16  # texts that are computed between two looks at whether the client is still there


@router.post("/v1/embeddings", openapi_extra=json_body(EmbeddingsRequest))
async def embeddings(request: Request) -> Response:
    """Turn texts into vectors."""
    body, gateway = await receive(request, EmbeddingsRequest)
    with admit(request, gateway, 1) as flight:
        rows = await asyncio.to_thread(read, flight.served, body)
        async with gateway.scoring:
            vectors = await while_listening(request, computed(flight.served, rows))
        text = await asyncio.to_thread(written, flight.served, body, rows, vectors)
    request.scope.setdefault("state", {})["prompt_tokens"] = sum(map(len, rows))
    return Response(text, media_type="application/json")


def read(served: Served, body: EmbeddingsRequest) -> list[list[int]]:
    """Return the token ids of each input; one that is too long is refused, never cut."""
    llm = served.llm
    if body.dimensions is not None and body.dimensions > llm.model.config.dim:
        message = f"dimensions: this model's vectors have {llm.model.config.dim}"
        raise ApiError(400, message, param="dimensions")
    try:
        return [text_ids(llm.model, llm.tokenizer, one, pooling_of(served), cut=False) for one in body.inputs]
    except UsageError as error:
        raise ApiError(400, f"input: {error}", param="input") from None


async def computed(served: Served, rows: list[list[int]]) -> list[Tensor]:
    """Return the vectors of the rows, batch by batch in a thread."""
    parts: list[Tensor] = []
    for start in range(0, len(rows), BATCH):
        parts += await asyncio.to_thread(_embed, served, rows[start : start + BATCH])
    return parts


def _embed(served: Served, rows: list[list[int]]) -> list[Tensor]:
    with numerics(served.numerics):
        return list(embed(served.llm.model, served.llm.tokenizer, rows, pooling_of(served), batch=BATCH))


def pooling_of(served: Served) -> Pooling:
    """Return how the model's files say to make vectors; by default the mean of the states."""
    return (served.llm.pooling if isinstance(served.llm, LLM) else None) or Pooling()


def written(served: Served, body: EmbeddingsRequest, rows: list[list[int]], vectors: list[Tensor]) -> str:
    """Return the answer's JSON; `dimensions` keeps the first ones and normalises again."""
    if body.dimensions is not None:
        vectors = [F.normalize(vector[: body.dimensions], dim=-1) for vector in vectors]
    write: Callable[[Tensor], Any] = _encoded if body.encoding_format == "base64" else Tensor.tolist
    data = [Embedding(object="embedding", index=at, embedding=write(vector)) for at, vector in enumerate(vectors)]
    tokens = sum(map(len, rows))
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingList(object="list", data=data, model=served.name, usage=usage).json_text()


def _encoded(vector: Tensor) -> str:
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()
