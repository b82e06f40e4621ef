"""`/v1/embeddings`: texts or token ids in, vectors out."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from hanok.serve.schema.common import Body, Reply, TokenId

MAX_INPUTS = 2048

TokenInput = Annotated[list[TokenId], Field(min_length=1)]


class EmbeddingsRequest(Body):
    """One text or many, as text or as token ids."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {"truncate_prompt_tokens": (None,)}

    input: (
        str
        | TokenInput
        | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
        | Annotated[list[TokenInput], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """The inputs, each a string or a list of token ids."""
        given = self.input
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], int):
            return [given]
        return cast("list[str | list[int]]", given)


class Embedding(Reply):
    """One vector: numbers, or little-endian float32 in base64."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Reply):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Reply):
    """The vectors in the order of the inputs."""

    object: str
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
