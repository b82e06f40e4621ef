"""Next-token prediction: plain, with every option, and with logits in pieces."""

CASES = [
    {"spec": {"kind": "clm"}},
    {"spec": {"kind": "clm", "logits": "pieces"}},
    {"spec": {"kind": "clm", "label_smoothing": 0.1, "z_loss": 0.01}},
    {"spec": {"kind": "clm", "label_smoothing": 0.1, "z_loss": 0.01, "logits": "pieces"}},
]


def reference(logits, batch, config, model):
    logp, w = logits.log_softmax(-1), batch.weights
    nll = -logp.gather(-1, batch.targets[..., None])[..., 0]
    each = (1 - config.label_smoothing) * nll - config.label_smoothing * logp.mean(-1)
    return ((each + config.z_loss * logits.exp().sum(-1).log() ** 2) * w).sum() / w.sum()
