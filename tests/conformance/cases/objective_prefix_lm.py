"""Prefix language modelling: a column says which tokens see one another both ways."""

import torch

CASES = [{"spec": {"kind": "prefix_lm"}}]


def complete(batch):
    sizes = torch.arange(len(batch.tokens))[:, None] % 4 + 1
    return batch.with_columns(prefix=(torch.arange(batch.tokens.shape[1]) < sizes).float())


def reference(logits, batch, config, model):
    nll = -logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    return (nll * batch.weights).sum() / batch.weights.sum()
