"""Exits after the first layer, weighed evenly and by depth."""

from hanok.model.exit import states
from hanok.nn.context import Dense

CASES = [{"spec": {"kind": "exits", "layers": [1], "weigh": how}} for how in ("even", "depth")]


def reference(logits, batch, config, model):
    w, ctx = batch.weights, Dense(batch.tokens, batch.positions, batch.segments)
    shares = (1, 1) if config.weigh == "even" else (1, 2)
    early = model.logits(states(model, batch.tokens, ctx, [1])[0])
    nll = [-x.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0] for x in (early, logits)]
    return sum(share / sum(shares) * (each * w).sum() / w.sum() for share, each in zip(shares, nll, strict=True))
