"""Mixture of depths: the paper's equation, the causal rule in every context, and what a predictor learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool
from hanok.model.config import ModelConfig
from hanok.model.depths import Depths, causal, highest
from hanok.model.model import Model
from hanok.model.size import count
from hanok.model.weights import load_model, save_model
from hanok.nn.context import Dense
from hanok.nn.router import ROUTERS
from hanok.nn.router.tally import tallying
from hanok.ops.numerics import numerics
from hanok.text.batch import Batch
from hanok.train.objective.clm import NextToken

MIXERS: list[dict[str, Any]] = [
    {"kind": "gqa", "heads": 4, "kv_heads": 2},
    {"kind": "gqa", "heads": 4, "kv_heads": 1, "window": 9},
    {"kind": "gqa", "heads": 4, "position": "alibi"},
    {"kind": "gqa", "heads": 2, "head_dim": 10, "sinks": "learned"},
    {"kind": "mla", "heads": 2, "kv_rank": 16, "nope_dim": 8, "rope_dim": 4, "v_dim": 8},
]
FFN = [MIXERS[0], {"kind": "rglru"}]
CASES = [(mixer, "block") for mixer in MIXERS] + [(mixer, "ffn") for mixer in FFN]
LENGTHS = (5, 37, 1, 70)
CHUNKS = (1, 1, 2, 7, 33)
Serve = Callable[..., list[Tensor]]


def config(mixer: dict[str, Any], over: str = "block", choice: str = "topk", **block: Any) -> ModelConfig:
    plain = {"mixer": mixer, "ffn": {"kind": "swiglu", "hidden": 40}} | block
    layers = {"plain": plain, "routed": plain | {"depths": {"share": 0.25, "over": over, "choice": choice}}}
    return ModelConfig.parse({"vocab": 31, "dim": 32, "depth": 4, "layers": layers, "pattern": list(layers)})


def build(
    mixer: dict[str, Any], over: str = "block", choice: str = "topk", dtype: torch.dtype = torch.float64
) -> Model:
    """Return a model whose predictors are as if trained: they let some tokens pass and not others."""
    model = Model(config(mixer, over, choice), seed=3)
    for module in model.modules():
        if isinstance(module, Depths):
            module.predictor.data.normal_()
            module.bias.data.fill_(-0.2)
    return model.to(dtype)


def share_of(model: Model, tokens: Tensor) -> list[float]:
    """Return the share of tokens that each mixture of depths lets pass."""
    found: list[float] = []
    hooks = []
    for module in model.modules():
        if isinstance(module, Depths):
            choose = module.choose
            module.choose = lambda x, choose=choose: (found.append(choose(x)[1].double().mean().item()), choose(x))[1]  # type: ignore[method-assign]
            hooks.append(module)
    model(tokens)
    for module in hooks:
        del module.choose
    return found


@torch.no_grad()
def test_equals_equation_1() -> None:
    """x_i + r_i f_i(X) for the k largest r, with f the block over the chosen tokens as a sequence of their own."""
    model, x = build(MIXERS[0]), torch.randn(3, 21, 32, dtype=torch.float64)
    block: Any = model.blocks[1]
    got = block(x, Dense(torch.zeros(3, 21)))
    r = x @ block.depths.weight[0]
    for row in range(3):
        chosen = r[row].topk(5).indices.sort().values
        alone = x[row, chosen][None]
        update = block._layer(alone, Dense(torch.zeros(1, 5), positions=chosen[None])) - alone
        want = x[row].clone()
        want[chosen] += r[row, chosen, None] * update[0]
        torch.testing.assert_close(got[row], want, rtol=1e-10, atol=1e-10)
    assert highest(r, 0.25).sum(-1).tolist() == [5, 5, 5]


@pytest.mark.parametrize("kind", list(ROUTERS))
@pytest.mark.parametrize("over", ["block", "ffn"])
def test_experts_that_no_token_reaches_have_no_balance(kind: str, over: str) -> None:
    """A fresh threshold lets no token pass: the loss and its figures are finite, and the router's part is 0."""
    more = {"capacity": 2} if kind == "switch" else {}
    ffn = {"kind": "moe", "experts": 4, "router": {"kind": kind, "balance": 0.1, "z": 0.1, **more}}
    shape = config(MIXERS[0], over, "threshold", ffn=ffn).model_copy(update={"pattern": ("routed",)})
    model, line = Model(shape, seed=3), torch.arange(26).view(2, 13)
    batch = Batch(line[:, :-1], line[:, 1:], torch.ones(2, 12), torch.arange(12).expand(2, -1))
    loss, metrics = NextToken(NextToken.Config())(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(bool(value.isfinite()) for value in (loss.detach(), *metrics.values()))
    assert float(metrics.get("moe/balance_loss", torch.zeros(()))) == 0
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@torch.no_grad()
def test_feed_forward_network_alone() -> None:
    model, x = build(FFN[1], "ffn"), torch.randn(2, 12, 32, dtype=torch.float64)
    block: Any = model.blocks[1]
    after = x + block.mixer(block.mixer_norm(x), Dense(torch.zeros(2, 12)))
    inner = block.ffn_norm(after)
    r = inner @ block.depths.weight[0]
    want = after + (r * highest(r, 0.25))[..., None] * block.ffn(inner)
    torch.testing.assert_close(block(x, Dense(torch.zeros(2, 12))), want, rtol=1e-10, atol=1e-10)


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, 31, (n,), generator=generator) for n in LENGTHS]


@pytest.mark.parametrize(("mixer", "over"), CASES, ids=str)
@torch.no_grad()
def test_token_by_token_equals_whole_sequences(mixer: dict[str, Any], over: str, serve: Serve) -> None:
    model, tokens = build(mixer, over, "threshold"), sequences()
    shares = share_of(model, tokens[3][None])
    assert all(0.05 < share < 0.95 for share in shares), "a test in which all or none pass would show nothing"
    pool = Pool(model.memory(), 90, page_size=7, dtype=torch.float64, order="shuffled", seed=1)
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, CHUNKS), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(("mixer", "over"), CASES, ids=str)
@torch.no_grad()
def test_exact_numerics_are_bitwise_equal(mixer: dict[str, Any], over: str, dtype: torch.dtype, serve: Serve) -> None:
    model, tokens = build(mixer, over, "threshold", dtype), sequences()
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled", seed=2)
        assert all(torch.equal(a, b) for a, b in zip(serve(model, tokens, pool, 3, CHUNKS), want, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@torch.no_grad()
def test_tokens_that_pass_by_are_no_keys(dtype: torch.dtype) -> None:
    """In every dtype: what a token was that the block did not see changes nothing for those that it saw."""
    model = build(MIXERS[0], dtype=dtype)
    block: Any = model.blocks[1]
    x = torch.randn(1, 24, 32, dtype=dtype)
    ctx = Dense(torch.zeros(1, 24))
    _, chosen = block.depths.choose(x)
    other = torch.where(chosen[..., None], x, x - 50 * block.depths.weight)  # the same choice: these have lower r still
    assert torch.equal(block.depths.choose(other)[1], chosen) and not torch.equal(x, other)
    assert torch.equal(block(x, ctx)[chosen], block(other, ctx)[chosen])
    places = chosen[0].nonzero()[:, 0]
    rows, gain = x[:, places], (x.float() @ block.depths.weight[0].float())[:, places, None].to(dtype)
    alone = block._layer(rows, Dense(torch.zeros(1, len(places)), positions=places[None]))
    error = (block(x, ctx)[:, places] - (rows + gain * (alone - rows))).abs().max()
    assert error < 16 * torch.finfo(dtype).eps, error


@torch.no_grad()
def test_what_depends_on_what() -> None:
    """threshold is causal; topk is not: a token that comes later may take a place away."""
    tokens = torch.randint(0, 31, (1, 40))
    changed = tokens.clone()
    changed[0, 30:] = (changed[0, 30:] + 11) % 31
    model = build(MIXERS[0])
    assert not torch.equal(model(tokens)[:, :30], model(changed)[:, :30])
    sure = causal(model)
    assert torch.equal(sure(tokens)[:, :30], sure(changed)[:, :30])
    assert not torch.equal(sure(tokens)[:, 30:], sure(changed)[:, 30:])


def test_causal_keeps_the_tensors_and_the_engine_refuses_topk(tmp_path: Path) -> None:
    model = build(MIXERS[0], dtype=torch.float32)
    twin = causal(model)
    assert twin.config == config(MIXERS[0], choice="threshold") and model.config == config(MIXERS[0])
    assert all(a is b for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    save_model(twin, tmp_path)
    again, tokens = load_model(tmp_path), sequences()[1][None]
    assert again.config == twin.config and torch.equal(again(tokens), twin(tokens))
    pool = Pool(model.memory(), 4)
    slot = pool.open()
    pool.append(slot, 3)
    with pytest.raises(UsageError, match="needs whole sequences"):
        model(tokens[:, :3], Paged(pool, [Row(slot, 0, 3)]))


@pytest.mark.parametrize("over", ["block", "ffn"])
def test_gradient_reaches_every_parameter(over: str) -> None:
    model = Model(config(MIXERS[0], over))
    line = torch.randint(0, 31, (3, 13))
    batch = Batch(line[:, :-1], line[:, 1:], torch.ones(3, 12), torch.arange(12).expand(3, -1))
    loss, metrics = NextToken(NextToken.Config())(model, batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert {"depths/predictor_loss", "depths/predictor_accuracy", "cross_entropy"} <= metrics.keys()
    torch.testing.assert_close(loss.detach(), metrics["cross_entropy"] + 2 * metrics["depths/predictor_loss"])


def test_predictor_leaves_the_model_alone() -> None:
    """Its gradient ends at its own two tensors (the paper's stop-gradient)."""
    model = Model(config(MIXERS[0]))
    with tallying() as tally:
        model(torch.randint(0, 31, (2, 12)))
    loss = tally.loss()
    assert loss is not None
    loss.backward()
    reached = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"predictor", "bias"}


@pytest.mark.slow
def test_training_teaches_the_predictor_and_the_causal_model_is_as_good() -> None:
    """Counting upwards again: topk learns it, and by threshold about the share passes with about the loss."""
    model = Model(config(MIXERS[0]))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    objective = NextToken(NextToken.Config())
    batch: Batch
    for _ in range(120):
        line = (torch.randint(0, 31, (8, 1)) + torch.arange(25)) % 31
        batch = Batch(line[:, :-1], line[:, 1:], torch.ones(8, 24), torch.arange(24).expand(8, -1))
        loss, metrics = objective(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["depths/predictor_accuracy"] > 0.9
    with torch.no_grad():
        _, figures = objective(causal(model), batch)
        shares = share_of(causal(model), batch.tokens)
    assert figures["cross_entropy"] < metrics["cross_entropy"] + 0.1
    assert all(abs(share - 0.25) < 0.15 for share in shares), shares


def test_costs_are_counted() -> None:
    """A quarter of the products of every second layer, and keys with four numbers more."""
    routed = count(config(MIXERS[0]))
    plain = count(config(MIXERS[0]).model_copy(update={"pattern": ("plain",)}))
    head = 2 * 32 * 31
    assert routed.flops - head == round((plain.flops - head) * (1 + 0.25) / 2)
    assert routed.cache_numbers == plain.cache_numbers + 2 * 2 * 4
    assert routed.params == plain.params + 2 * (2 * 32 + 1)


def test_misuse_is_explained() -> None:
    with pytest.raises(UsageError, match=r"recurrent state cannot pass.*over = 'ffn'"):
        Model(config({"kind": "rglru"}))
    with pytest.raises(UsageError, match="softcap"):
        Model(config({"kind": "gqa", "heads": 4, "softcap": 30.0}))(torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"share"):
        ModelConfig.parse(
            config(MIXERS[0]).to_dict() | {"layers": {"block": {"mixer": MIXERS[0], "depths": {"share": 0}}}}
        )
