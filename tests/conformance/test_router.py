"""What every router inherits: drop a file in `nn/router/` and its cases in `cases/`, and these run on it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanok.nn.ffn.moe import MoE
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.router import ROUTERS
from hanok.nn.router.tally import current, tallying
from hanok.ops.numerics import numerics

Case = tuple[dict[str, Any], str]
# One file of cases per router: `cases/router_<kind>.py` with pairs of a spec and what a token's output depends on:
# "itself", the "past" of its row, or its whole "row".
CASES: dict[str, list[Case]] = {
    file.stem.removeprefix("router_"): runpy.run_path(str(file))["CASES"]
    for file in sorted((Path(__file__).parent / "cases").glob("router_*.py"))
}
FLAT = [case for cases in CASES.values() for case in cases]
DIM, EXPERTS, HIDDEN = 20, 6, 12


def build(router: dict[str, Any], experts: int = EXPERTS, seed: int = 0) -> MoE:
    """Return a float64 mixture with random weights."""
    expert = {"kind": "swiglu", "hidden": HIDDEN}
    moe = MoE(MoE.Config.parse({"kind": "moe", "experts": experts, "router": router, "expert": expert}), DIM)
    generator = torch.Generator().manual_seed(seed)
    for parameter in moe.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return moe.double()


def rows(batch: int = 3, length: int = 17) -> Tensor:
    return torch.randn(batch, length, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def name(case: Case) -> str:
    return " ".join(f"{k}={v}" for k, v in case[0].items())


def test_every_router_has_a_case() -> None:
    assert set(CASES) == set(ROUTERS)


@pytest.mark.parametrize("case", FLAT, ids=name)
def test_loads_sum_to_what_was_kept(case: Case) -> None:
    moe, x = build(case[0]), rows()
    with tallying() as tally:
        moe(x)
    (loads,), (_, _, choice) = tally.loads(), tally.entries[0]
    kept = choice.experts.numel() if choice.kept is None else int(choice.kept.sum())
    assert loads.shape == (EXPERTS,) and int(loads.sum()) == kept
    if choice.kept is None:
        assert kept == moe.router.per_token * 3 * 17
    assert all(len(set(token)) == len(token) for token in choice.experts.flatten(0, 1).tolist()), "an expert twice"
    figures = tally.metrics()
    assert 0 <= figures["moe/load_min"] <= 1 <= figures["moe/load_max"] <= EXPERTS
    assert 0 <= figures["moe/dropped"] < 1


@pytest.mark.parametrize("case", FLAT, ids=name)
def test_one_expert_is_the_dense_network(case: Case) -> None:
    router = {**case[0], "groups": 1, "groups_per_token": 1} if "groups" in case[0] else dict(case[0])
    router |= {"per_token": 1} if "per_token" in router else {}
    router |= {"factor": 1.0} if "factor" in router else {}
    router |= {"scale": 1.0} if "scale" in router else {}
    router |= {"capacity": 17} if "capacity" in router else {}
    moe, dense = build(router, experts=1), SwiGLU(SwiGLU.Config(hidden=HIDDEN), DIM).double()
    dense.load_state_dict({key: value[0] for key, value in moe.experts.state_dict().items()})
    torch.testing.assert_close(moe(rows()), dense(rows()), rtol=1e-12, atol=1e-12)


EVEN = [
    {"kind": "topk", "per_token": EXPERTS},
    {"kind": "group_limited", "per_token": EXPERTS},
    {"kind": "sigmoid_group", "per_token": EXPERTS},
    {"kind": "expert_choice", "factor": EXPERTS},
]


@pytest.mark.parametrize("router", EVEN, ids=lambda router: router["kind"])
def test_all_experts_with_equal_weights_are_their_mean(router: dict[str, Any]) -> None:
    moe, dense = build(router), SwiGLU(SwiGLU.Config(hidden=HIDDEN), DIM).double()
    nn.init.zeros_(moe.router.weight)
    outputs = []
    for expert in range(EXPERTS):
        dense.load_state_dict({key: value[expert] for key, value in moe.experts.state_dict().items()})
        outputs.append(dense(rows()))
    torch.testing.assert_close(moe(rows()), torch.stack(outputs).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", FLAT, ids=name)
@torch.no_grad()
def test_a_token_depends_on_what_the_method_says(case: Case) -> None:
    """Rows of a batch never see each other; within a row, a change shows where it must and nowhere else."""
    router, depends = case
    moe, x = build(router), rows(3, 24)
    whole = moe(x)
    for row in range(3):
        torch.testing.assert_close(moe(x[row : row + 1]), whole[row : row + 1], rtol=1e-12, atol=1e-12)
    earlier = later = False
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        changed = x.clone()
        changed[:, 11] = torch.randn(3, DIM, dtype=torch.float64, generator=generator)
        differs = ((moe(changed) - whole).abs() > 1e-9).any(-1)
        earlier |= bool(differs[:, :11].any())
        later |= bool(differs[:, 12:].any())
    assert (earlier, later) == {"itself": (False, False), "past": (False, True), "row": (True, True)}[depends]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", [case for case in FLAT if case[1] == "itself"], ids=name)
@torch.no_grad()
def test_exact_bits_do_not_depend_on_the_batch(case: Case, dtype: torch.dtype) -> None:
    moe, x = build(case[0]).to(dtype), torch.randn(6, 50, DIM).to(dtype)
    with numerics("exact"):
        whole = moe(x)
        for row, length in ((0, 50), (3, 1), (5, 37)):
            assert torch.equal(moe(x[row : row + 1, :length]), whole[row : row + 1, :length])


@pytest.mark.parametrize("case", FLAT, ids=name)
def test_gradient_reaches_the_router_and_the_experts_that_were_used(case: Case) -> None:
    moe, x = build(case[0]), rows()
    with tallying() as tally:
        moe(x).square().mean().backward()
    used = tally.loads()[0] > 0
    if moe.router.per_token > 1 or case[0].get("normalise") == "none" or case[0]["kind"] != "topk":
        assert moe.router.weight.grad is not None and moe.router.weight.grad.abs().sum() > 0
    for parameter in moe.experts.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad.flatten(1).abs().sum(1) > 0, used)


@pytest.mark.parametrize("case", FLAT, ids=name)
def test_losses_flow_into_the_router(case: Case) -> None:
    moe = build({**case[0], "balance": 0.5, "z": 0.25})
    with tallying() as tally:
        moe(rows())
    router, logits, choice = tally.entries[0]
    loss = tally.loss()
    assert loss is not None
    want = 0.5 * router.balance_loss(choice) + 0.25 * torch.logsumexp(logits, -1).square().mean()
    torch.testing.assert_close(loss, want)
    loss.backward()
    assert moe.router.weight.grad is not None and moe.router.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in moe.experts.parameters())


def test_nothing_is_collected_outside_a_tally() -> None:
    moe = build({"kind": "topk", "balance": 0.1})
    assert current() is None
    with tallying() as outer:
        with tallying() as inner:
            moe(rows())
        assert len(inner.entries) == 1 and not outer.entries
    moe(rows())
    assert len(inner.entries) == 1 and current() is None and outer.loss() is None and outer.metrics() == {}
