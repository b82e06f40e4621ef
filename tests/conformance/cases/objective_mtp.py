"""Multi-token prediction with modules for two tokens further ahead."""

from hanok.model.config import ModelConfig, MTPConfig
from hanok.nn.context import Dense

CASES = [{"spec": {"kind": "mtp", "weight": 0.5}}]


def change(config: ModelConfig) -> ModelConfig:
    return ModelConfig.model_validate({**config.to_dict(), "mtp": MTPConfig(depth=2)})


def reference(logits, batch, config, model):
    w, n = batch.weights, batch.tokens.shape[1]
    loss = -(logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0] * w).sum() / w.sum()
    ctx = Dense(batch.tokens, batch.positions, batch.segments)
    for k, ahead in enumerate(model.mtp_logits(model.hidden(batch.tokens, ctx), batch.tokens, ctx), 1):
        nll = -ahead.log_softmax(-1).gather(-1, batch.targets[:, k:, None])[..., 0]
        loss = loss + config.weight / 2 * (nll * w[:, k:]).sum() / w.sum()
        assert ahead.shape[1] == n - k
    return loss
