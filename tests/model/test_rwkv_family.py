"""What the family's shared tests cannot see of RWKV: the halvings of the stream, and configs that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.model import Model
from hanok.model.weights import load_model

SMALL = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 5, "context_length": 64}


@torch.no_grad()
def test_halvings_are_epsilons(tmp_path: Any) -> None:
    """Inference of theirs halves the stream every two layers; training does not. Both are a config of ours."""
    theirs = RwkvForCausalLM(RwkvConfig(**SMALL, rescale_every=2, layer_norm_epsilon=0.01))
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(0, 40, (2, 30))
    ours = load_model(tmp_path)
    trained = theirs.train()(tokens).logits
    served = theirs.eval()(tokens, use_cache=False).logits
    torch.testing.assert_close(ours(tokens), served, rtol=1e-5, atol=1e-5)
    assert (trained - served).abs().max() > 1e-2, "control arm: the halvings are to be seen"
    plain = FAMILIES["rwkv"].read_config({**SMALL, "rescale_every": 0, "layer_norm_epsilon": 0.01})
    same = Model(plain)
    same.load_state_dict(ours.state_dict())
    torch.testing.assert_close(same(tokens), trained, rtol=1e-5, atol=1e-5)


def test_halvings_read_and_write() -> None:
    rwkv = FAMILIES["rwkv"]
    for depth in (1, 4, 5, 6, 13):
        for every in (-1, 0, 1, 3, 4, 6, 20):
            config = rwkv.read_config(SMALL | {"num_hidden_layers": depth, "rescale_every": every})
            written = rwkv.write_config(config)
            assert written is not None and rwkv.read_config(written) == config
            assert len(config.layers) == 2 * len({i // every for i in range(depth)} if every > 0 else {0})
    eps = rwkv.read_config(SMALL | {"rescale_every": 2}).layers["time_2"].norm.eps
    assert eps == 16e-5


def test_another_stack_is_not_rwkv() -> None:
    config = FAMILIES["rwkv"].read_config(SMALL).to_dict()
    for change in ({"pattern": ["channel", "time"]}, {"depth": 7}, {"embed": {}}):
        assert FAMILIES["rwkv"].write_config(ModelConfig.parse(config | change)) is None
    assert FAMILIES["rwkv"].write_config(ModelConfig.preset("llama-tiny")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": "3"},
        {"num_hidden_layers": True},
        {"rescale_every": 0.5},
        {"layer_norm_epsilon": "1e-5"},
        {"layer_norm_epsilon": float("inf")},
        {"attention_hidden_size": -1},
        {"intermediate_size": [4]},
    ],
    ids=str,
)
def test_configs_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        FAMILIES["rwkv"].read_config(SMALL | change)


def test_parameters_of_the_published_sizes() -> None:
    """RWKV-4-Pile-169M and 430M, built without weights: as many as in the reference, and as their names say."""
    for dim, depth, want in ((768, 12, 169_342_464), (1024, 24, 430_397_440)):
        config = FAMILIES["rwkv"].read_config(
            {"vocab_size": 50277, "hidden_size": dim, "num_hidden_layers": depth, "context_length": 1024}
        )
        with torch.device("meta"):
            theirs = RwkvForCausalLM(RwkvConfig(vocab_size=50277, hidden_size=dim, num_hidden_layers=depth))
        got = sum(p.numel() for p in Model(config, device="meta").parameters())
        assert got == sum(p.numel() for p in theirs.parameters()) == want
