"""RWKV-4's parts against `transformers`, and its sums against their plain definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import RwkvConfig
from transformers.models.rwkv.modeling_rwkv import RwkvFeedForward, RwkvSelfAttention, rwkv_linear_attention_cpu

from hanok.nn.context import Dense
from hanok.nn.mixer import MIXERS
from hanok.ops.numerics import numerics
from hanok.ops.wkv import wkv, wkv_reference

TIME = {
    "mix_key": "time_mix_key",
    "mix_value": "time_mix_value",
    "mix_receptance": "time_mix_receptance",
    "decay": "time_decay",
    "bonus": "time_first",
    "key.weight": "key.weight",
    "value.weight": "value.weight",
    "receptance.weight": "receptance.weight",
    "o.weight": "output.weight",
}
CHANNEL = {
    "mix_key": "time_mix_key",
    "mix_receptance": "time_mix_receptance",
    "key.weight": "key.weight",
    "receptance.weight": "receptance.weight",
    "down.weight": "value.weight",
}


def inputs(length: int, size: float = 1.0) -> list[Tensor]:
    """Return k, v (2,T,5), decay > 0 and bonus (5,), and the state after some tokens."""
    k, v = (torch.randn(2, length, 5, dtype=torch.float64) * size for _ in range(2))
    decay = torch.tensor([1e-3, 0.05, 0.5, 2.0, 20.0], dtype=torch.float64)
    bonus = torch.randn(5, dtype=torch.float64)
    _, state = wkv(k[:, :3] + 1, v[:, :3], decay, bonus, torch.zeros(2, 3, 5, dtype=torch.float64))
    return [k, v, decay, bonus, state]


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_sums_equal_their_definition(length: int, mode: str) -> None:
    x = inputs(length)
    with numerics(mode):
        got, after = wkv(x[0], x[1], x[2], x[3], x[4])
    want, end = wkv_reference(x[0], x[1], x[2], x[3], x[4])
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after[:, :2] * after[:, 2:].exp(), end[:, :2], rtol=1e-10, atol=1e-10)
    cut, first = length // 2 or 1, []
    for part in ((x[0][:, :cut], x[1][:, :cut]), (x[0][:, cut:], x[1][:, cut:])):
        if part[0].shape[1]:
            y, x[4] = wkv(part[0], part[1], x[2], x[3], x[4])
            first.append(y)
    torch.testing.assert_close(torch.cat(first, 1), got, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_sums_equal_transformers(scale: float) -> None:
    """Keys of some hundreds overflow a plain exponential; the running scale keeps every step finite."""
    k, v = torch.randn(2, 300, 5) * scale, torch.randn(2, 300, 5)
    decay, bonus = torch.randn(5), torch.randn(5) * scale
    want, _ = rwkv_linear_attention_cpu(decay, bonus, k, v)
    got, _ = wkv(k, v, decay.exp(), bonus, torch.zeros(2, 3, 5))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    if scale > 100:
        assert not wkv_reference(k, v, decay.exp(), bonus, torch.zeros(2, 3, 5))[0].isfinite().all(), "control arm"


def test_keys_of_nothing() -> None:
    """A first token whose weight underflows is still the mean of itself."""
    k, v = torch.full((1, 2, 3), -500.0), torch.randn(1, 2, 3)
    y, _ = wkv(k, v, torch.ones(3), torch.zeros(3), torch.zeros(1, 3, 3))
    assert torch.equal(y[:, 0], v[:, 0]) and y.isfinite().all()


def test_long_sequences_stay_stable() -> None:
    k, v, decay = torch.randn(1, 2048, 5) * 3, torch.randn(1, 2048, 5), torch.tensor([1e-6, 1e-4, 0.01, 1.0, 50.0])
    got, _ = wkv(k, v, decay, torch.zeros(5), torch.zeros(1, 3, 5))
    want, _ = wkv(k.double(), v.double(), decay.double(), torch.zeros(5).double(), torch.zeros(1, 3, 5).double())
    assert (got - want).abs().max() < 1e-4


def test_gradients() -> None:
    x = [t.requires_grad_() for t in inputs(6)[:4]]
    nothing = torch.zeros(2, 3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *t: wkv(*t, nothing)[0], x)

    def in_two(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
        """Pass the state from chunk to chunk: the gradient goes through it."""
        a, state = wkv(k[:, :2], v[:, :2], decay, bonus, nothing)
        b, _ = wkv(k[:, 2:], v[:, 2:], decay, bonus, state)
        return torch.cat((a, b), 1)

    assert torch.autograd.gradcheck(in_two, x)


def theirs(part: Any, dim: int, width: int, hidden: int) -> Any:
    config = RwkvConfig(
        hidden_size=dim, attention_hidden_size=width, intermediate_size=hidden, num_hidden_layers=2, vocab_size=9
    )
    module = part(config, 0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def copied(mixer: Any, reference: Any, names: dict[str, str]) -> Any:
    with torch.no_grad():
        assert {name for name, _ in mixer.named_parameters()} == set(names)
        assert {name for name, _ in reference.named_parameters()} == set(names.values())
        for our_name, their_name in names.items():
            ours = mixer.get_parameter(our_name)
            ours.copy_(reference.get_parameter(their_name).view(ours.shape))
    return mixer


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize(("kind", "width", "hidden"), [("time", 16, 64), ("time", 11, 64), ("channel", 16, 37)])
def test_parts_equal_transformers(kind: str, width: int, hidden: int, mode: str) -> None:
    if kind == "time":
        reference = theirs(RwkvSelfAttention, 16, width, hidden)
        spec, names = {"kind": "rwkv_time", "width": width}, TIME
    else:
        reference = theirs(RwkvFeedForward, 16, width, hidden)
        spec, names = {"kind": "rwkv_channel", "hidden": hidden}, CHANNEL
    made = MIXERS[spec["kind"]]
    ours = copied(made(made.Config.parse(spec), 16, 0), reference, names)
    x, weight = torch.randn(3, 40, 16), torch.randn(3, 40, 16)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with numerics(mode):
        got = ours(a, Dense(torch.zeros(3, 40, dtype=torch.int64)))
        got.backward(weight)
    want = reference(b)[0]
    want.backward(weight)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    for our_name, their_name in names.items():
        mine, its = ours.get_parameter(our_name).grad, reference.get_parameter(their_name).grad
        torch.testing.assert_close(mine, its.view(mine.shape), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_equals_transformers_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sums go through `Tensor.float`, which is made to keep the precision."""
    reference = theirs(RwkvSelfAttention, 16, 12, 64).double()
    made = MIXERS["rwkv_time"]
    ours = copied(made(made.Config(width=12), 16, 0).double(), reference, TIME)
    x = torch.randn(2, 70, 16, dtype=torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.testing.assert_close(
        ours(x, Dense(torch.zeros(2, 70, dtype=torch.int64))), reference(x)[0], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", ["rwkv_time", "rwkv_channel"])
def test_starting_weights(kind: str) -> None:
    """Channels run from slow to fast; a width of one does not divide by zero."""
    for dim in (1, 24):
        made = MIXERS[kind](MIXERS[kind].Config(), dim, 0)
        made.reset(torch.Generator())
        assert all(p.isfinite().all() for name, p in made.named_parameters() if name.startswith(("mix", "decay", "bo")))
        if kind == "rwkv_time":
            assert made.decay.min() == -5 and (dim == 1 or made.decay.max() == 3)
