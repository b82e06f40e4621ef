"""The clipped surrogate with each of its means."""

import torch

RANGE = {"kind": "grpo", "beta": 0.1, "epsilon_low": 0.2, "epsilon_high": 0.3}
CASES = [
    {"spec": RANGE | {"aggregate": "token"}},
    {"spec": RANGE | {"aggregate": "sequence"}},
    {"spec": RANGE | {"aggregate": "constant", "max_tokens": 16}},
]


def complete(batch):
    g = torch.Generator().manual_seed(5)
    shape, counted = batch.weights.shape, (batch.weights > 0).float()
    return batch.with_columns(
        advantages=torch.randn(shape[0], 1, generator=g).expand(shape) * counted,
        old_logprobs=(-3.5 + 0.5 * torch.randn(shape, generator=g)) * counted,
        reference=(-3.5 + 0.5 * torch.randn(shape, generator=g)) * counted,
    )


def reference(logits, batch, config, model):
    lp, w, c = logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0], batch.weights, batch.columns
    r, x = (lp - c["old_logprobs"]).exp(), c["reference"] - lp
    each = -torch.min(r * c["advantages"], r.clamp(0.8, 1.3) * c["advantages"]) + 0.1 * (x.exp() - x - 1)
    if config.aggregate == "token":
        return (each * w).sum() / w.sum()
    if config.aggregate == "sequence":
        return ((each * w).sum(-1) / w.sum(-1)).mean()
    return (each * w).sum() / (len(w) * config.max_tokens)
