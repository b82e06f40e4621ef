"""Masked language modelling on an encoder: the batch says what is hidden, and the loss asks for it."""

CASES = [
    {"spec": {"kind": "mlm"}, "preset": "bert", "dials": {"heads": 2}},
    {"spec": {"kind": "mlm", "logits": "pieces", "z_loss": 0.01}, "preset": "bert", "dials": {"heads": 2}},
]


def reference(logits, batch, config, model):
    nll = -logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    return ((nll + config.z_loss * logits.logsumexp(-1) ** 2) * batch.weights).sum() / batch.weights.sum()
