"""Optimisers against torch's own, group coverage, and states that restore to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.linear import Linear
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.optim.base import check_cover, slots
from hanok.train.optim.muon import Muon, MuonConfig, orthogonalise

Tiny = Callable[..., Model]


def grads(model: nn.Module, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=g)


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_adamw_equals_torch(tiny: Tiny) -> None:
    """Decay on matrices only, warm-up factors included; torch's own loop is the reference."""
    ours, theirs = tiny(), tiny()
    config = AdamWConfig(lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.2)
    optimizer = AdamW(config, ours)
    matrices = [p for p in theirs.parameters() if p.ndim >= 2]
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.8, 0.99),
        eps=1e-6,
        foreach=False,
    )
    for step in range(20):
        grads(ours, step)
        grads(theirs, step)
        for group in reference.param_groups:
            group["lr"] = 1e-2 * (step + 1) / 20
        optimizer.step((step + 1) / 20)
        reference.step()
    for a, b in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_patterns_spare_parameters_from_decay(tiny: Tiny) -> None:
    model = tiny()
    optimizer = AdamW(AdamWConfig(lr=0.1, weight_decay=0.5, no_decay=("embed.*",)), model)
    before = {slot.name: slot.parameter.detach().clone() for slot in slots(model)}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    for slot in slots(model):
        decays = slot.parameter.ndim >= 2 and not slot.name.startswith("embed.")
        expected = before[slot.name] * (0.95 if decays else 1.0)
        torch.testing.assert_close(slot.parameter.detach(), expected)
    with pytest.raises(UsageError, match="fits no parameter"):
        AdamW(AdamWConfig(no_decay=("embedding.*",)), model)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    g = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 16), (2, 12, 40)):
        matrices = torch.randn(shape, generator=g)
        for dtype, slack in ((torch.float32, 0.0), (torch.bfloat16, 0.05)):
            values = torch.linalg.svdvals(orthogonalise(matrices, 5, dtype))
            assert values.min() > 0.3 - slack
            assert values.max() < 1.25 + slack
        # The singular vectors stay: the result is close to U V^T, not merely orthogonal.
        u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
        cosine = (orthogonalise(matrices, 8) * (u @ vt)).sum((-2, -1)) / (u @ vt).norm(dim=(-2, -1)) ** 2
        assert (cosine > 0.8).all()


def test_a_batch_of_matrices_is_each_alone() -> None:
    matrices = torch.randn(5, 8, 24)
    together = orthogonalise(matrices)
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", ["spectral", "rms"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_equals_torch(scale: str, decay: float) -> None:
    """torch multiplies in bfloat16 one matrix at a time; ours in batches, so that roundings differ a little."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down, self.flat = Linear(12, 32), Linear(32, 12), Linear(12, 12)

    torch.manual_seed(1)
    ours, theirs = Net(), Net()
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    config = MuonConfig(lr=0.05, weight_decay=decay, scale=scale, precision="bfloat16")  # type: ignore[arg-type]
    optimizer = Muon(config, ours)
    reference = torch.optim.Muon(
        theirs.parameters(),
        lr=0.05,
        weight_decay=decay,
        adjust_lr_fn="original" if scale == "spectral" else "match_rms_adamw",
    )
    start = torch.cat([w.flatten() for w in weights(ours)])
    for step in range(10):
        grads(ours, step)
        grads(theirs, step)
        optimizer.step(1.0)
        reference.step()
    a, b = (torch.cat([w.flatten() for w in weights(net)]) for net in (ours, theirs))
    assert (a - b).norm() < 0.02 * (b - start).norm()


def test_muon_takes_matrices_and_adamw_the_rest(tiny: Tiny) -> None:
    model = tiny("griffin-tiny", depth=3)
    optimizer = Muon(MuonConfig(), model)
    owned = {slot.name for stack in optimizer._stacks for slot in stack.slots}
    assert owned
    assert all(isinstance(model.get_submodule(name.rpartition(".")[0]), Linear) for name in owned)
    assert not any(name.startswith(("embed.", "head.")) for name in owned)
    names = {id(p): name for name, p in model.named_parameters()}
    everything = [names[id(p)] for p in optimizer.parameters]
    assert sorted(everything) == sorted(names.values())
    untied = Model(model.config.model_copy(update={"embeddings": "untied"}))
    assert not any("head" in s.name for stack in Muon(MuonConfig(), untied)._stacks for s in stack.slots)


def test_a_parameter_left_out_or_owned_twice_is_noticed(tiny: Tiny) -> None:
    model = tiny()
    parameters = list(model.parameters())
    check_cover(model, parameters[:3], parameters[3:])
    with pytest.raises(AssertionError, match="no optimiser group"):
        check_cover(model, parameters[1:])
    with pytest.raises(AssertionError, match="two optimiser groups"):
        check_cover(model, parameters, parameters[:1])


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
@pytest.mark.parametrize("moved", [0, 1, 7])
def test_state_restores_to_the_last_bit(kind: str, moved: int, tiny: Tiny) -> None:
    part = OPTIMIZERS[kind]
    first = tiny("griffin-tiny", depth=3)
    one = part(part.Config(), first)
    for step in range(moved):
        grads(first, step)
        one.step(0.5)
    tensors, data = one.state()
    second = tiny("griffin-tiny", depth=3, seed=9)
    second.load_state_dict(first.state_dict())
    two = part(part.Config(), second)
    two.restore({name: tensor.clone() for name, tensor in tensors.items()}, data)
    for step in range(5):
        grads(first, 100 + step)
        grads(second, 100 + step)
        one.step(1.0)
        two.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_state_of_another_model_is_refused(tiny: Tiny) -> None:
    small, large = tiny(), tiny(dim=32)
    one, two = Muon(MuonConfig(), small), Muon(MuonConfig(), large)
    grads(small, 0)
    one.step(1.0)
    with pytest.raises(UsageError, match="has the shape"):
        two.restore(*one.state())


def test_frozen_parameters_stay(tiny: Tiny) -> None:
    model = tiny()
    model.embed.weight.requires_grad_(False)
    before: Any = model.embed.weight.detach().clone()
    optimizer = Muon(MuonConfig(), model)
    grads(model, 0)
    optimizer.step(1.0)
    assert torch.equal(model.embed.weight, before)
