"""Direct preference optimisation on pairs of rows."""

import torch

CASES = [{"spec": {"kind": "dpo", "beta": 0.3, "label_smoothing": 0.1}}]


def complete(batch):
    return batch.with_columns(reference=torch.linspace(-30, -20, batch.weights.shape[0]))


def reference(logits, batch, config, model):
    lp = logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    h = (lp * batch.weights).sum(-1) - batch.columns["reference"]
    h = config.beta * (h[0::2] - h[1::2])
    return -((1 - config.label_smoothing) * h.sigmoid().log() + config.label_smoothing * (-h).sigmoid().log()).mean()
