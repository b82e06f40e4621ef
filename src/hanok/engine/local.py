"""A language model in this process: model, tokenizer and chat format as one thing to load, use and save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hanok.core.device import pick
from hanok.core.errors import UsageError, suggest
from hanok.engine.beam import Beam, beam_search
from hanok.engine.choices import best, choices
from hanok.engine.choose import log_probs
from hanok.engine.embed import Pooling, embed, read_pooling, write_pooling
from hanok.engine.engine import Engine
from hanok.engine.hub import find
from hanok.engine.request import Event, Prompt, Request
from hanok.model.config import ModelConfig
from hanok.model.gguf.load import is_gguf, load_gguf
from hanok.model.gguf.save import save_gguf
from hanok.model.gguf.vocabulary import Vocabulary
from hanok.model.model import Model
from hanok.model.packing import check_weights, pack_weights
from hanok.model.weights import CONFIG, DTYPES, TokenIds, is_model_dir, load_model, read_token_ids, save_model
from hanok.ops.native import prepare as prepare_kernels
from hanok.ops.numerics import current
from hanok.text.chat import ChatSpec, load_chat
from hanok.text.tokenizer import Tokenizer

SLAB = 1 << 24  # logits held at once while scoring
OPTIONS = sorted({field.name for field in fields(Request) if field.init} - {"prompt", "_"})


class LLM:
    """A model with what it takes to use it; tokenizer and chat format may be absent, then prompts are token ids."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer | None = None,
        chat: ChatSpec | None = None,
        *,
        ids: TokenIds | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        if tokenizer is None and chat is not None:
            raise UsageError("a chat format needs a tokenizer: pass both or neither")
        self.pooling = pooling  # None: no sentence encoder's files were there
        self.model, self.tokenizer, self.chat = model, tokenizer, chat
        self.ids = _token_ids(ids, tokenizer)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        dtype: str | None = None,
        device: str = "cpu",
        revision: str | None = None,
        weights: str | None = None,
    ) -> LLM:
        """Load a Hugging Face directory or hub repository; `dtype` None keeps the stored one. See `load`."""
        if weights is not None:
            dtype = dtype or "float32"
            llm = cls.load(source, dtype=dtype, device=device, revision=revision)
            pack_weights(llm.model, check_weights(weights))
            prepare_kernels()
            return llm
        if dtype is not None and dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}{suggest(dtype, DTYPES)} (known: {', '.join(DTYPES)})")
        path = find(source, revision=revision)
        if is_gguf(path):
            return cls._from_gguf(path, DTYPES[dtype or "float32"], device)
        if not is_model_dir(path):
            raise UsageError(f"{path} holds no {CONFIG}: it is not a model directory")
        model = load_model(path, None if dtype is None else DTYPES[dtype]).to(pick(device))
        tokenizer = Tokenizer.load(path) if (path / "tokenizer.json").is_file() else None
        chat = load_chat(path, tokenizer) if tokenizer is not None else None
        if tokenizer is not None and tokenizer.vocab_size > model.config.vocab:
            raise UsageError(
                f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, but config.json says vocab_size "
                f"{model.config.vocab}; the files do not belong together"
            )
        return cls(model, tokenizer, chat, ids=read_token_ids(path), pooling=read_pooling(path))

    @classmethod
    def _from_gguf(cls, path: Path, dtype: torch.dtype, device: str) -> LLM:
        """Read a GGUF file; quantised weights become plain numbers."""
        model, ids, vocabulary, _ = load_gguf(path, dtype)
        tokenizer = None if vocabulary is None else Tokenizer.from_json(vocabulary.json, vocabulary.config, where=path)
        chat = load_chat(path, tokenizer) if tokenizer is not None else None
        return cls(model.to(pick(device)), tokenizer, chat, ids=ids)

    def export_gguf(self, path: str | Path, dtype: Literal["f32", "f16", "q8_0"] = "q8_0") -> None:
        """Write one GGUF file, with tokenizer and chat template, which llama.cpp reads: LLaMA and Qwen2 shapes."""
        vocabulary = None
        if self.tokenizer is not None:
            config = {"add_bos_token": True, **self.tokenizer.config}  # what `prepare.begin` takes silence to mean
            if self.chat is not None:
                config = config | {"chat_template": self.chat.template()}
            vocabulary = Vocabulary(self.tokenizer.to_json(), config)
        ids = replace(self.ids, eos=tuple(sorted(self.stop_ids)))
        save_gguf(self.model, path, dtype, vocabulary=vocabulary, ids=ids)

    def save(self, path: str | Path) -> None:
        """Write the Hugging Face layout: weights, configs, tokenizer and chat template."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        if self.tokenizer is not None:
            self.tokenizer.save(path)
        if self.chat is not None:
            self.chat.save(path)
        if self.pooling is not None:
            write_pooling(self.pooling, self.config.dim, path)
        save_model(self.model, path, replace(self.ids, eos=tuple(sorted(self.stop_ids))))

    @property
    def config(self) -> ModelConfig:
        """Return the model's config."""
        return self.model.config

    @property
    def vocab_size(self) -> int:
        """Return how many different tokens there are."""
        return self.config.vocab

    @property
    def stop_ids(self) -> frozenset[int]:
        """Return the tokens that end a text or an assistant's turn."""
        turns = self.chat.stops(self.tokenizer) if self.chat is not None and self.tokenizer is not None else []
        return frozenset([*self.ids.eos, *turns])

    @property
    def start_ids(self) -> list[int]:
        """Return what the decoder of a model with an encoder begins with."""
        start = next((id for id in (self.ids.start, self.ids.bos, self.ids.pad) if id is not None), 0)
        return [start]

    def embed(self, texts: Sequence[str | Sequence[int]], *, batch: int = 32, **options: Any) -> Tensor:
        """Return one vector per text (N, dim) float32.

        Options are those of `Pooling` (pool, normalise, max_tokens, lower), which override what a sentence encoder's
        own files say; without any, the mean of the states is taken, and normalised.
        """
        known = [field.name for field in fields(Pooling)]
        for name in options:
            if name not in known:
                raise UsageError(f"unknown option {name!r}{suggest(name, known)} (known: batch, {', '.join(known)})")
        return embed(self.model, self.tokenizer, texts, replace(self.pooling or Pooling(), **options), batch=batch)

    def logprobs(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """Return log p(tokens[:, t + 1] | tokens[:, : t + 1]) as (B, T-1) float32, by one whole-sequence forward.

        The numerics in force apply: under `exact` each number has the bits that the engine gave. `source` (B, S) are
        the tokens that a model's encoder reads.
        """
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or not tokens.shape[1]:
            raise UsageError(f"tokens must be int64 of shape (B, T), not {tokens.dtype} {tuple(tokens.shape)}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.config.vocab:
            raise UsageError(f"tokens must be ids from 0 to {self.config.vocab - 1}")
        with torch.no_grad():
            given = None if source is None else source.to(self.model.device)
            hidden = self.model.hidden(tokens.to(self.model.device), source=given)[:, :-1].flatten(0, 1)
            targets = tokens[:, 1:].reshape(-1, 1).to(self.model.device)
            rows = max(1, SLAB // self.config.vocab)
            pairs = zip(hidden.split(rows), targets.split(rows), strict=True)
            parts = [log_probs(self.model.logits(h)).gather(-1, t) for h, t in pairs]
        return torch.cat(parts).view(tokens.shape[0], tokens.shape[1] - 1)

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        max_tokens: int | None = 32,
        *,
        temperature: float = 0.0,
        seed: int | None = 0,
        n: int = 1,
        best_of: int | None = None,
        speculation: Any = None,
        **options: Any,
    ) -> Any:
        """Return the `Output` of a prompt, or a list of them for a list of prompts.

        With `n` above 1 a prompt's outputs are a list; of `best_of` drawn, those with the best mean log-prob.

        A prompt is a text, a list of messages, or token ids (list or tensor; several rows are several prompts).
        Further options are those of `Request`; log-probs of the chosen tokens come unless `logprobs=None`. The
        numerics in force apply. `speculation` is that of `EngineConfig`.
        """
        options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "logprobs": 0, **options}
        engine = Engine(self, numerics=current(), speculation=speculation)
        many = several(prompt)
        prompts = list(prompt) if many else [prompt]
        requests = [_request(one, options) for one in prompts]
        if n != 1 or best_of is not None:
            answers = _several(engine, requests, n, n if best_of is None else best_of)
            return answers if many else answers[0]
        outputs = engine.generate(requests)
        return outputs if many else outputs[0]

    def beam_search(self, prompt: Prompt, max_tokens: int | None = 32, **options: Any) -> list[Beam]:
        """Return a prompt's likeliest texts as a whole, the best first; options are those of `engine.beam_search`."""
        return beam_search(self, prompt, max_tokens, **options)

    def stream(
        self,
        prompt: Prompt,
        max_tokens: int | None = 32,
        *,
        temperature: float = 0.0,
        seed: int | None = 0,
        speculation: Any = None,
        **options: Any,
    ) -> Iterator[Event]:
        """Yield a prompt's pieces as they come: `.text`, `.tokens`, and with the last one `.output`."""
        if several(prompt):
            raise UsageError("stream takes one prompt; use generate for several")
        options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "logprobs": 0, **options}
        engine = Engine(self, numerics=current(), speculation=speculation)
        engine.add(_request(prompt, options))
        return _pieces(engine)


def load(
    source: str | Path,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    revision: str | None = None,
    weights: str | None = None,
) -> LLM:
    """Load a model from a directory or from the hub by `org/name`: weights, tokenizer and chat template if there are.

    No code of the directory ever runs, and only safetensors weights are read. `weights` fp32, bf16, int8 or int4 is
    the format that products read them in, while everything else is computed in float32 (or `dtype`).
    """
    return LLM.load(source, dtype=dtype, device=device, revision=revision, weights=weights)


def several(prompt: Any) -> bool:
    """Say whether this is a list of prompts rather than one: of texts, of conversations, of rows of token ids."""
    if isinstance(prompt, torch.Tensor):
        return prompt.ndim == 2 and prompt.shape[0] != 1
    if isinstance(prompt, str) or not isinstance(prompt, Sequence) or not len(prompt):
        return False
    return isinstance(prompt[0], str | torch.Tensor | Sequence)


def _several(engine: Engine, requests: list[Request], n: int, drawn: int) -> list[Any]:
    """Return each request's `n` best outputs of `drawn` (one output where n is 1)."""
    if not 1 <= n <= drawn:
        raise UsageError(f"n must be at least 1, and best_of no less than n, not {n} and {drawn}")
    every = engine.generate([one for each in requests for one in choices(each, drawn)])
    groups = [every[at : at + drawn] for at in range(0, len(every), drawn)]
    kept = [[group[at] for at in (best(group, n) if drawn > n else range(n))] for group in groups]
    return [group[0] if n == 1 else group for group in kept]


def _pieces(engine: Engine) -> Iterator[Event]:
    while engine.has_work:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            yield event


def _request(prompt: Any, options: dict[str, Any]) -> Request:
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"unknown option {name!r}{suggest(name, OPTIONS)} (known: {', '.join(OPTIONS)})")
    return Request(prompt, **options)


def _token_ids(ids: TokenIds | None, tokenizer: Tokenizer | None) -> TokenIds:
    """Return the special tokens that the files name, completed by the tokenizer's own."""
    ids = ids or TokenIds()
    if tokenizer is None:
        return ids
    eos = ids.eos if tokenizer.eos_id is None or tokenizer.eos_id in ids.eos else (*ids.eos, tokenizer.eos_id)
    bos = tokenizer.bos_id if ids.bos is None else ids.bos
    return replace(ids, bos=bos, eos=eos, pad=tokenizer.pad_id if ids.pad is None else ids.pad)
