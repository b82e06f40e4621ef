"""Expert choice against the paper's formula, written as loops; and what Switch's factor means."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanok.nn.ffn.moe import MoE
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.router.switch import Switch
from hanok.nn.router.tally import tallying


@pytest.mark.parametrize(("factor", "tokens"), [(2.0, 3), (1.0, 1), (0.1, 1), (4.0, 6)])
@torch.no_grad()
def test_each_expert_takes_its_best_tokens_of_a_row(factor: float, tokens: int) -> None:
    words = {
        "experts": 6,
        "router": {"kind": "expert_choice", "factor": factor},
        "expert": {"kind": "swiglu", "hidden": 7},
    }
    moe = MoE(MoE.Config.parse(words), 5).double()
    for parameter in moe.parameters():
        nn.init.normal_(parameter, std=0.7)
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    want = torch.zeros_like(x)
    for row in range(2):
        scores = (x[row] @ moe.router.weight.T).softmax(-1)
        for expert in range(6):
            dense = SwiGLU(SwiGLU.Config(hidden=7), 5).double()
            dense.load_state_dict({key: value[expert] for key, value in moe.experts.state_dict().items()})
            best = sorted(range(9), key=lambda t: -float(scores[t, expert]))[:tokens]
            for t in best:
                want[row, t] += scores[t, expert] * dense(x[row, t])
    with tallying() as tally:
        torch.testing.assert_close(moe(x), want, rtol=1e-12, atol=1e-12)
    assert tally.loads()[0].tolist() == [2 * tokens] * 6, "every expert has the same load"


@pytest.mark.parametrize(("factor", "most"), [(1.0, 3), (1.25, 4), (0.1, 1)])
def test_the_factor_of_a_capacity_is_of_an_even_share(factor: float, most: int) -> None:
    router = Switch(Switch.Config(factor=factor), 5, 4)
    choice = router(torch.randn(3, 10, 5))  # the weight is zero: all want the first expert; an even share is 2.5
    assert choice.kept is not None and choice.kept.sum(1).flatten().tolist() == [most] * 3
