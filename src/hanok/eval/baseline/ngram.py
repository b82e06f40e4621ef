"""The best model before the network, trained on the very tokens that our model was trained on."""

from __future__ import annotations

import math

from hanok.classic.ngram import NGram
from hanok.core.errors import UsageError
from hanok.eval.baseline import BASELINES, Held
from hanok.text.data.shard import Shards

ORDER = 4


@BASELINES.register("ngram", paper="https://doi.org/10.1109/ICASSP.1995.479394")
def ngram(held: Held) -> float:
    """An interpolated Kneser-Ney 4-gram over the training tokens, counted like the model: every token of the text."""
    if held.train is None:
        raise UsageError("the n-gram baseline needs training tokens: give `tokens`, or leave it out of baselines")
    config = NGram.Config(order=ORDER, vocab_size=held.tokenizer.vocab_size)
    model = NGram(config).fit(Shards(held.train, verify=False).documents())
    bos = [] if held.tokenizer.bos_id is None else [held.tokenizer.bos_id]
    rows = [[*bos, *ids] for ids in held.tokenizer.encode_many(held.texts)]
    nats = math.fsum(float(model.logprobs(row)[len(bos) :].sum()) for row in rows)
    return -nats / math.log(2) / held.bytes
