"""Texts to vectors: an encoder's states, pooled as its files say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError, suggest
from hanok.core.json_file import MIB, clip, read_text
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.text.tokenizer import Tokenizer

Pool = Literal["mean", "cls", "last", "max", "pooler"]
POOLS: tuple[Pool, ...] = get_args(Pool)
MODULES, LENGTH, TOKENIZER = "modules.json", "sentence_bert_config.json", "tokenizer_config.json"
UNBOUNDED = 10**9  # a tokenizer without a limit says 1e30
# The key of each way of pooling in sentence-transformers' files, and its word in newer ones; `pooler` has none there.
KEYS: dict[Pool, str] = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
    "max": "pooling_mode_max_tokens",
}
WORDS: dict[str, Pool] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "max": "max"}


@dataclass(frozen=True)
class Pooling:
    """How a sentence encoder makes a vector of the states of a text's tokens.

    `max_tokens` None means the model's context; `lower` makes texts lower-case before the tokenizer sees them.
    """

    pool: Pool = "mean"
    normalise: bool = True
    max_tokens: int | None = None
    lower: bool = False


def read_pooling(path: Path) -> Pooling | None:
    """Return what sentence-transformers' files in a model directory say, None where there are none."""
    length = _read(path / LENGTH, dict) if (path / LENGTH).is_file() else {}
    if not (path / MODULES).is_file():
        return Pooling(**_limits(length)) if length else None
    if "max_seq_length" not in length and (path / TOKENIZER).is_file():  # newer files leave it to the tokenizer's
        longest = _read(path / TOKENIZER, dict).get("model_max_length")
        length |= {"max_seq_length": longest if isinstance(longest, int) and longest < UNBOUNDED else None}
    pool, normalise = None, False
    for module in _read(path / MODULES, list):
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        if kind == "Pooling":
            pool = _pool_of(path, str(module.get("path", "")))
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise UsageError(f"{path / MODULES} asks for {clip(kind or module)}, which is not supported")
    if pool is None:
        raise UsageError(f"{path / MODULES} names no Pooling module")
    return Pooling(pool, normalise, **_limits(length))


def write_pooling(pooling: Pooling, dim: int, path: Path) -> None:
    """Write the files that `read_pooling` and sentence-transformers read."""
    if pooling.pool not in KEYS:
        raise UsageError(f"sentence-transformers' files cannot say pool {pooling.pool!r} (known: {', '.join(KEYS)})")
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] * pooling.normalise)]
    modules = [
        {"idx": at, "name": str(at), "path": where, "type": f"sentence_transformers.models.{kind}"}
        for at, (kind, where) in enumerate(kinds)
    ]
    pools = {key: pool == pooling.pool for pool, key in KEYS.items()}
    limits = {"max_seq_length": pooling.max_tokens, "do_lower_case": pooling.lower}
    for _, where in kinds[1:]:
        (path / where).mkdir(parents=True, exist_ok=True)
    _write(path / "1_Pooling" / "config.json", {"word_embedding_dimension": dim, **pools})
    _write(path / LENGTH, limits)
    _write(path / MODULES, modules)


def embed(
    model: Model,
    tokenizer: Tokenizer | None,
    texts: Sequence[str | Sequence[int]],
    pooling: Pooling,
    *,
    batch: int = 32,
) -> Tensor:
    """Return one vector per text, (N, dim) float32.

    Its states are averaged (mean), their largest numbers taken feature by feature (max), or one of them: the first's
    (cls), the last's, or what BERT's pooler makes of the first's. Texts are cut to `max_tokens`; texts of like length
    are computed together, padded, and padding is seen by nothing. A text is a string or the ids of one, special tokens
    included.
    """
    if pooling.pool not in POOLS:
        raise UsageError(f"unknown pool {pooling.pool!r}{suggest(pooling.pool, POOLS)} (known: {', '.join(POOLS)})")
    if isinstance(texts, str):
        raise UsageError("embed takes a list of texts, not one text: give [text]")
    rows = [text_ids(model, tokenizer, text, pooling) for text in texts]
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    out = torch.empty(len(rows), model.config.dim)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            vectors = _pooled(model, [rows[at] for at in part], pooling.pool)
            out[part] = (F.normalize(vectors, dim=-1) if pooling.normalise else vectors).cpu()
    return out


def _pooled(model: Model, rows: list[list[int]], pool: Pool) -> Tensor:
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    hidden = _states(model, tokens, seen)
    if pool == "pooler":
        return model.pool(hidden).float()
    states = hidden.float()
    if pool == "cls":
        return states[:, 0]
    if pool == "last":
        return states[torch.arange(len(rows)), seen.sum(1) - 1]
    if pool == "max":
        return states.masked_fill(seen[..., None] == 0, -torch.inf).amax(1)
    return (states * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)


def _states(model: Model, tokens: Tensor, seen: Tensor) -> Tensor:
    """Return last hidden states (B,T,dim): of the encoder, where there is one beside a decoder."""
    if model.encoder is not None:
        return model.encode(tokens, seen.bool()).states
    return model.hidden(tokens, Dense(tokens, segments=1 - seen))


def text_ids(
    model: Model, tokenizer: Tokenizer | None, text: str | Sequence[int], pooling: Pooling, *, cut: bool = True
) -> list[int]:
    """Return the ids that a text's vector is made of; one that is too long is cut, or refused without `cut`."""
    limit = min(pooling.max_tokens or model.config.context, model.config.context)
    if isinstance(text, str):
        if tokenizer is None:
            raise UsageError("this model has no tokenizer: give texts as token ids")
        ids = tokenizer.encode_wrapped(text.lower() if pooling.lower else text, limit if cut else UNBOUNDED)
    else:
        ids = list(text)[: limit if cut else None]
    if not ids:
        raise UsageError("a text without a single token has no vector: leave it out")
    if len(ids) > limit:
        raise UsageError(f"a text has {len(ids)} tokens; this model reads {limit}")
    if not 0 <= min(ids) <= max(ids) < model.config.vocab:
        raise UsageError(f"a text holds a token id outside the model's vocabulary of {model.config.vocab} tokens")
    return ids


def _limits(data: Mapping[str, Any]) -> dict[str, Any]:
    longest = data.get("max_seq_length")
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise UsageError(f"{LENGTH}: max_seq_length must be a whole number above 0, not {clip(longest)}")
    return {"max_tokens": longest, "lower": data.get("do_lower_case") is True}


def _pool_of(path: Path, where: str) -> Pool:
    """Return how a Pooling module's config.json pools; the module lies in a folder of the model's directory."""
    if Path(where).name != where or len(where) > 100:
        raise UsageError(f"{path / MODULES} names the folder {clip(where)}, which is not one of this directory")
    file = path / where / "config.json"
    config = _read(file, dict)
    named = config.get("pooling_mode")
    on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    found = WORDS.get(str(named)) if named else next((pool for pool, key in KEYS.items() if on == [key]), None)
    if found is None:
        raise UsageError(f"{file} pools by {clip(named or on)}; one of {', '.join(WORDS)} is supported")
    return found


def _read(file: Path, kind: type) -> Any:
    try:
        data = json.loads(read_text(file, limit=MIB))
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    if not isinstance(data, kind):
        raise UsageError(f"{file} must hold a JSON {'object' if kind is dict else 'list'}")
    return data


def _write(file: Path, data: Any) -> None:
    atomic_write(file, json.dumps(data, indent=2) + "\n")
