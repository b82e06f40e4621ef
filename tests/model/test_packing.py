"""Weights in another format and place: every number stays, shared ones stay shared, files and copies can be made."""

from __future__ import annotations

import copy
import mmap
from pathlib import Path

import pytest
import torch

import hanok
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.packing import pack_weights, settle
from hanok.model.weights import load_model, save_model

needs_pages = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="huge pages are asked for on Linux")


def model() -> Model:
    return Model(ModelConfig.preset("llama-tiny", vocab=1000, dim=128, depth=2))


@needs_pages
@torch.no_grad()
def test_settling_moves_weights_and_changes_nothing(tmp_path: Path) -> None:
    one = model()
    before = copy.deepcopy(one.state_dict())
    places = {name: tensor.data_ptr() for name, tensor in one.state_dict().items()}
    tokens = torch.randint(0, 1000, (2, 9))
    want = one(tokens)
    assert settle(one) > 100_000
    after = one.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    moved = sorted(tensor.data_ptr() for name, tensor in after.items() if tensor.data_ptr() != places[name])
    assert len(moved) > 4 and moved[-1] - moved[0] < 4_000_000, "side by side"
    assert all(place % 64 == 0 for place in moved)
    assert torch.equal(one(tokens), want)
    save_model(one, tmp_path)
    assert torch.equal(load_model(tmp_path)(tokens), want)
    assert torch.equal(copy.deepcopy(one)(tokens), want)


@needs_pages
def test_what_is_shared_stays_shared_and_can_still_be_learned() -> None:
    one = model()
    shared = [name for name, _ in one.named_parameters(remove_duplicate=False)]
    assert len(shared) > len(list(one.parameters())), "the head is the embedding"
    settle(one)
    assert len(shared) > len(list(one.parameters()))
    one(torch.randint(0, 1000, (1, 5))).square().sum().backward()
    assert all(parameter.grad is not None for parameter in one.parameters())


@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8", "int4"])
@torch.no_grad()
def test_packed_weights_give_what_they_gave_before_they_were_moved(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model()
    other = copy.deepcopy(one)
    pack_weights(one, kind)
    with monkeypatch.context() as patch:
        patch.setattr("hanok.model.packing.settle", lambda _: 0)
        pack_weights(other, kind)
    tokens = torch.randint(0, 1000, (1, 7))
    assert torch.equal(one(tokens), other(tokens))
    request = hanok.Request([1, 2, 3], 5, temperature=0.0, ignore_eos=True)
    told = [hanok.Engine(hanok.LLM(each), numerics="exact").generate([request])[0].tokens for each in (one, other)]
    assert told[0] == told[1]
