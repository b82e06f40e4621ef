"""From a request to a sequence: the prompt in token ids, its limits against the model, its stops."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from typing import Any, Protocol, cast

from hanok.core.errors import UsageError
from hanok.engine.grammar import Grammar
from hanok.engine.grammar.compiler import compiler_for
from hanok.engine.grammar.matcher import Matcher
from hanok.engine.request import Message, Prompt, Request
from hanok.engine.sequence import Sequence, TextStream
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import ChatSpec
from hanok.text.tokenizer import Tokenizer


class Served(Protocol):
    """What an engine serves: a model, and whatever turns text into its tokens and back."""

    @property
    def model(self) -> Model: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @property
    def chat(self) -> ChatSpec | None: ...

    @property
    def stop_ids(self) -> frozenset[int]: ...

    @property
    def start_ids(self) -> list[int]: ...


def prepare(llm: Served, request: Request, *, id: int, seed: int, capacity: int | None) -> Sequence:
    """Return the sequence of a request, or say what about it cannot work with this model and pool.

    `capacity` is how many tokens the whole pool holds, None if that does not limit a sequence.
    """
    config = llm.model.config
    _check_writes(config)
    prompt, source = encode(llm, request.prompt), None
    _check_ids(request, prompt, config.vocab)
    if config.encoder is not None:  # what is asked is read by the encoder; the decoder starts afresh
        prompt, source = llm.start_ids, _ended(llm, request.prompt, prompt)
        _check_source(config, source)
        if request.prompt_logprobs is not None:
            raise UsageError("prompt_logprobs need a model that writes its prompt; this one's encoder only reads it")
    room = config.context - len(prompt)
    if room < 1:
        raise UsageError(f"prompt has {len(prompt)} tokens, and the model's context of {config.context} leaves no room")
    limit = room if request.max_tokens is None else request.max_tokens
    if limit > room:
        raise UsageError(
            f"max_tokens ({limit}) and a prompt of {len(prompt)} tokens exceed the model's context of "
            f"{config.context}; max_tokens can be at most {room}"
        )
    # The last token drawn is never read, so it needs no memory.
    if capacity is not None and len(prompt) + limit - 1 > capacity:
        if request.max_tokens is not None or len(prompt) > capacity:
            raise UsageError(
                f"max_tokens ({limit}) and a prompt of {len(prompt)} tokens exceed the engine's whole pool of "
                f"{capacity} tokens; make either smaller or num_pages larger"
            )
        limit = capacity - len(prompt) + 1
    if request.min_tokens > limit:
        raise UsageError(f"min_tokens ({request.min_tokens}) is more than the {limit} tokens that there is room for")
    sequence = Sequence(
        id,
        request,
        prompt=prompt,
        max_tokens=limit,
        stop_ids=[*request.stop_token_ids, *(() if request.ignore_eos else llm.stop_ids)],
        seed=seed if request.seed is None else request.seed,
        text=_stream(llm, request),
        source=source,
    )
    sequence.matcher = matcher(llm, request.grammar)
    sequence.bad_words = tuple(_rows(llm, request.bad_words))
    return sequence


def matcher(llm: Served, grammar: Any) -> Matcher | None:
    """Return what follows a grammar; compiling it may take long the first time, so this is for any thread."""
    return None if grammar is None else compiler_for(_tokenizer(llm, "a grammar")).matcher(Grammar.of(grammar))


def _rows(llm: Served, words: Ordered[str | Ordered[int]]) -> Iterator[tuple[int, ...]]:
    """Yield the rows of tokens that words are written with: at a text's beginning, and behind a blank."""
    for word in words:
        if not isinstance(word, str):
            yield tuple(word)
            continue
        tokenizer = _tokenizer(llm, "bad_words as text")
        yield from dict.fromkeys(tuple(tokenizer.encode(text)) for text in (word, f" {word}"))


def encode(llm: Served, prompt: Prompt) -> list[int]:
    """Return a prompt's token ids: text behind the beginning-of-text token, messages through the chat format."""
    if isinstance(prompt, str):
        tokenizer = _tokenizer(llm, "a text prompt")
        return [*begin(tokenizer), *tokenizer.encode(prompt)]
    if not isinstance(prompt[0], dict):
        return list(prompt)
    tokenizer = _tokenizer(llm, "a list of messages")
    if llm.chat is None:
        raise UsageError("this model has no chat format (no chat_template.jinja): give the prompt as text or token ids")
    return list(llm.chat.encode(tokenizer, cast(Ordered[Message], prompt), generation=True).tokens)


def _ended(llm: Served, given: Prompt, source: list[int]) -> list[int]:
    """Return what an encoder reads: a text is ended as in training, token ids are taken as they are."""
    tokenizer = llm.tokenizer
    if tokenizer is None or tokenizer.eos_id is None or not isinstance(given, str):
        return source
    return [*source, tokenizer.eos_id]


def _check_source(config: ModelConfig, source: list[int]) -> None:
    """Refuse a source beyond the end of a table of positions; other schemes have no end."""
    length = getattr(config.embed.position, "length", None)
    if length is not None and len(source) > length:
        raise UsageError(f"prompt has {len(source)} tokens, and the encoder's positions end at {length}")


def begin(tokenizer: Tokenizer) -> list[int]:
    """Return what a document starts with: the beginning-of-text token, unless there is none or it is switched off."""
    wanted = tokenizer.config.get("add_bos_token", True)
    return [] if tokenizer.bos_id is None or not wanted else [tokenizer.bos_id]


def _tokenizer(llm: Served, what: str) -> Tokenizer:
    if llm.tokenizer is None:
        raise UsageError(f"this model has no tokenizer, so it cannot read {what}: give the prompt as token ids")
    return llm.tokenizer


def _check_writes(config: ModelConfig) -> None:
    """Refuse a model that reads only: it has no head, or layers for which a new token changes all that came before."""
    seen = [getattr(config.layers[name].mixer, "see", "past") for name in config.pattern]
    if config.head is None or "all" in seen:
        why = "it has no head" if config.head is None else "its layers see both ways (see: all)"
        raise UsageError(f"this model cannot generate text: {why}; use embed, or the model's own forward")


def _check_ids(request: Request, prompt: list[int], vocab: int) -> None:
    if max(prompt, default=0) >= vocab:
        bad = next(id for id in prompt if id >= vocab)
        raise UsageError(f"prompt holds token id {bad}, but the model's vocabulary has {vocab} tokens")
    if not prompt:
        raise UsageError("prompt is empty: give at least one character, message or token id")
    if max(request.stop_token_ids, default=0) >= vocab:
        raise UsageError(f"stop_token_ids {list(request.stop_token_ids)} go beyond the vocabulary of {vocab} tokens")
    if max(request.logit_bias, default=0) >= vocab:
        raise UsageError(f"logit_bias names token id {max(request.logit_bias)}; the vocabulary has {vocab} tokens")
    if max((id for word in request.bad_words if not isinstance(word, str) for id in word), default=0) >= vocab:
        raise UsageError(f"bad_words hold a token id beyond the vocabulary of {vocab} tokens")
    if request.logprobs is not None and request.logprobs > vocab:
        raise UsageError(f"logprobs ({request.logprobs}) is more than the vocabulary's {vocab} tokens")


def _stream(llm: Served, request: Request) -> TextStream | None:
    if llm.tokenizer is not None:
        return llm.tokenizer.detokenizer()
    if request.stop:
        raise UsageError("stop strings need a tokenizer, which this model does not have: use stop_token_ids")
    return None
