"""A pool of rows to choose from: texts, questions without an answer, and conversations, each scored in its own way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hanok.core.errors import UsageError
from hanok.text.batch import ALL
from hanok.text.chat.message import check_messages
from hanok.text.data.read import Record, conversation
from hanok.text.data.score.base import Scores
from hanok.text.trace import Trace, document
from hanok.train.bundle import Bundle
from hanok.train.select import prompt_scores, trace_scores


def pool_scores(bundle: Bundle, records: Sequence[Record], by: str, *, tokens: int = 4) -> Scores:
    """Return how unsure a model is about each row, in nats or as a share, whatever `by` measures.

    Of a `text` every token counts, of a conversation what the assistant says, and of a `prompt` alone the first
    `tokens` tokens of the answer that the model itself would give. Rows are cut at the model's context.
    """
    if not records:
        raise UsageError("the pool is empty: there is nothing to choose from")
    texts: dict[int, Trace] = {}
    talks: dict[int, Trace] = {}
    prompts: dict[int, list[int]] = {}
    limit = bundle.model.config.context
    for place, record in enumerate(records):
        row = record.row
        if "prompt" in row and not {"completion", "messages", "chosen"} & set(row):
            prompts[place] = _question(bundle, record)
            if len(prompts[place]) + tokens > limit:
                raise record.error(f"a prompt of {len(prompts[place])} tokens leaves no room in a context of {limit}")
        elif isinstance(row.get("text"), str):
            ids = bundle.tokenizer.encode_document(row["text"])[: limit + 1]
            texts[place] = document(ids)
        else:
            talks[place] = _cut(bundle.speaking().encode(bundle.tokenizer, conversation(record)), limit + 1)
    scores = np.zeros(len(records))
    if prompts:
        stops = [] if bundle.chat is None else bundle.chat.stops(bundle.tokenizer)
        asked = list(prompts.values())
        scores[list(prompts)] = prompt_scores(bundle.model, asked, by, tokens=tokens, stops=stops)
    for some, role in ((texts, ALL), (talks, "assistant")):
        if some:
            scores[list(some)] = trace_scores(bundle.model, list(some.values()), by, role=role)
    return scores


def _question(bundle: Bundle, record: Record) -> list[int]:
    value = record.row["prompt"]
    if bundle.chat is None:
        if not isinstance(value, str):
            raise record.error("this model has no chat format, so that a prompt must be a text")
        return bundle.tokenizer.encode(value)
    where = f"{record.file}, line {record.line}: prompt"
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else check_messages(value, where=where)
    return bundle.chat.encode(bundle.tokenizer, messages, generation=True).tokens


def _cut(trace: Trace, size: int) -> Trace:
    spans = [type(span)(span.start, min(span.end, size), span.role, span.source) for span in trace.spans]
    return Trace(trace.tokens[:size], [span for span in spans if span.start < span.end])
