"""`POST /tokenize` and `POST /detokenize`: what the model would read, and the text of tokens."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from hanok.core.errors import UsageError
from hanok.serve.body import json_body
from hanok.serve.errors import ApiError
from hanok.serve.flow import receive
from hanok.serve.schema.tokens import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest
from hanok.serve.served import Served
from hanok.text.tokenizer import Tokenizer

router = APIRouter()

LONGEST = 2**20  # characters; each takes a hundred bytes and more while it is tokenised


@router.post("/tokenize", openapi_extra=json_body(TokenizeRequest))
async def tokenize(request: Request) -> Response:
    """Return the token ids of a text or a conversation."""
    body, gateway = await receive(request, TokenizeRequest)
    reply = await asyncio.to_thread(_tokens, gateway.served(), body)
    return Response(reply.json_text(), media_type="application/json")


@router.post("/detokenize", openapi_extra=json_body(DetokenizeRequest))
async def detokenize(request: Request) -> Response:
    """Return the text of token ids."""
    body, gateway = await receive(request, DetokenizeRequest)
    text = await asyncio.to_thread(_text, gateway.served(), body.tokens)
    return Response(DetokenizeReply(prompt=text).json_text(), media_type="application/json")


def _tokens(served: Served, body: TokenizeRequest) -> TokenizeReply:
    if body.messages is not None:
        tools = [tool.plain() for tool in body.tools or ()]
        tokens = served.render(body.messages, tools, generation=body.add_generation_prompt)
    elif body.add_special_tokens and body.prompt:
        (tokens,) = served.encode([body.prompt])
    else:
        tokens = _plain(served, body.prompt or "")
    strings = {"token_strs": [served.text.text_of(id) for id in tokens]} if body.return_token_strs else {}
    return TokenizeReply(count=len(tokens), max_model_len=served.context, tokens=tokens, **strings)


def _plain(served: Served, text: str) -> list[int]:
    if len(text) > LONGEST:
        raise ApiError(400, f"prompt: at most {LONGEST} characters are tokenised at once", param="prompt")
    try:
        return _tokenizer(served).encode(text)
    except UsageError as error:
        raise ApiError(400, f"prompt: {error}", param="prompt") from None


def _text(served: Served, tokens: list[int]) -> str:
    tokenizer = _tokenizer(served)
    wrong = next((id for id in tokens if id >= served.llm.model.config.vocab), None)
    if wrong is not None:
        vocab = served.llm.model.config.vocab
        raise ApiError(400, f"tokens: token id {wrong} is not below the vocabulary's {vocab}", param="tokens")
    return tokenizer.decode(tokens, skip_special=False)


def _tokenizer(served: Served) -> Tokenizer:
    if served.llm.tokenizer is None:
        raise ApiError(400, "this model has no tokenizer")
    return served.llm.tokenizer
