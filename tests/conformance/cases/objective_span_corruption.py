"""Span corruption on an encoder-decoder: a column holds what the encoder reads."""

import torch

CASES = [
    {"spec": {"kind": "span_corruption"}, "preset": "transformer", "dials": {"heads": 2}},
    {"spec": {"kind": "span_corruption", "logits": "pieces"}, "preset": "transformer", "dials": {"heads": 2}},
]


def complete(batch):
    g = torch.Generator().manual_seed(3)
    return batch.with_columns(source=torch.randint(0, 32, (len(batch.tokens), 7), generator=g))


def reference(logits, batch, config, model):
    nll = -logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    return (nll * batch.weights).sum() / batch.weights.sum()
