"""Early exit: the full model at threshold 1, one answer in every context, the training loss, and what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.pool import Pool
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.exit import EarlyExit, ExitConfig, compare, confidence, flops_left
from hanok.model.model import Model
from hanok.model.size import count
from hanok.model.weights import save_model
from hanok.nn.context import Dense
from hanok.ops.numerics import numerics
from hanok.text.batch import Batch
from hanok.train.objective.clm import NextToken
from hanok.train.objective.exits import Exits

MIXERS: list[dict[str, Any]] = [
    {"kind": "gqa", "heads": 4, "kv_heads": 2},
    {"kind": "gqa", "heads": 4, "window": 9, "position": "alibi"},
    {"kind": "mla", "heads": 2, "kv_rank": 16, "nope_dim": 8, "rope_dim": 4, "v_dim": 8},
    {"kind": "rglru"},
]
LENGTHS = (5, 37, 1, 70)
CHUNKS = (1, 1, 2, 7, 33)
Serve = Callable[..., list[Tensor]]


def build(mixer: dict[str, Any] | None = None, dtype: torch.dtype = torch.float64, **more: Any) -> Model:
    block = {"mixer": mixer or MIXERS[0], "ffn": {"kind": "swiglu", "hidden": 40}}
    config = {"vocab": 31, "dim": 32, "depth": 4, "layers": {"block": block}, "context": 128} | more
    return Model(ModelConfig.parse(config), seed=3).to(dtype)


def plan(model: Model, share: float = 0.4) -> ExitConfig:
    """Return exits after two layers, with a threshold that about a share of random tokens passes at each."""
    with torch.no_grad():
        sure = confidence(model(torch.randint(0, 31, (4, 64))))
    return ExitConfig(layers=(1, 3), threshold=sure.flatten().double().quantile(1 - share).item())


def counting(rows: int = 8, length: int = 24) -> Batch:
    line = (torch.randint(0, 31, (rows, 1)) + torch.arange(length + 1)) % 31
    return Batch(line[:, :-1], line[:, 1:], torch.ones(rows, length), torch.arange(length).expand(rows, -1))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("mixer", MIXERS, ids=str)
@torch.no_grad()
def test_threshold_1_is_the_full_model_to_the_last_bit(mixer: dict[str, Any], mode: str) -> None:
    model, tokens = build(mixer, torch.float32), torch.randint(0, 31, (3, 40))
    model.head.weight.mul_(1e4)  # type: ignore[union-attr]  # probabilities that round to 1 must not leave either
    early = EarlyExit(model, ExitConfig(layers=(1, 2, 3), threshold=1.0))
    with numerics(mode):
        assert (confidence(model(tokens)) == 1).any()
        assert torch.equal(early(tokens), model(tokens))
    assert early.used == {4: 120}


@torch.no_grad()
def test_equals_the_rule_written_out() -> None:
    """Token by token with lists of keys in mind: a token that left lends its last state to every later layer."""
    model, tokens = build(), torch.randint(0, 31, (1, 30))
    rule = plan(model)
    early = EarlyExit(model, rule)
    got, used = early.run(tokens, Dense(tokens))
    inputs: list[list[Tensor]] = [[] for _ in range(4)]  # what each layer was given, token by token
    want, layers = [], []
    for at in range(30):
        x, left = model.embed(tokens[:, at : at + 1]), None
        for layer, block in enumerate(model.blocks, 1):
            inputs[layer - 1].append(x)
            if left is not None:
                continue
            x = block(torch.cat(inputs[layer - 1], 1), Dense(tokens[:, : at + 1]))[:, -1:]
            probs = model.logits(model.norm(x)).softmax(-1)  # type: ignore[misc]
            if layer in rule.layers and probs.max() > rule.threshold:
                left = layer
        want.append(model.norm(x))  # type: ignore[misc]
        layers.append(left or 4)
    assert set(layers) == {1, 3, 4}, "a test in which all leave alike would show nothing"
    assert used[0].tolist() == layers
    torch.testing.assert_close(got, torch.cat(want, 1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("mixer", MIXERS, ids=str)
@torch.no_grad()
def test_token_by_token_equals_whole_sequences(mixer: dict[str, Any], dtype: torch.dtype, serve: Serve) -> None:
    """Close in float64, and equal to the last bit in exact numerics, keys of tokens that left included."""
    model = build(mixer, dtype)
    early, tokens = EarlyExit(model, plan(model)), [torch.randint(0, 31, (n,)) for n in LENGTHS]
    early(tokens[3][None])
    assert min(early.used[layer] for layer in (1, 3, 4)) > 2, early.used
    if dtype == torch.float64:
        pool = Pool(model.memory(), 90, page_size=7, dtype=dtype, order="shuffled", seed=1)
        for ids, got in zip(tokens, serve(early, tokens, pool, 1, CHUNKS), strict=True):
            torch.testing.assert_close(got, early(ids[None])[0], rtol=1e-10, atol=1e-10)
    with numerics("exact"):
        want = [early(ids[None])[0] for ids in tokens]
        pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled", seed=2)
        assert all(torch.equal(a, b) for a, b in zip(serve(early, tokens, pool, 3, CHUNKS), want, strict=True))


@torch.no_grad()
def test_engine_serves_it(tmp_path: Path) -> None:
    """Greedy tokens through pages, several requests at once, are those of whole forwards."""
    save_model(build(dtype=torch.float32), tmp_path)
    llm = LLM.load(tmp_path)
    rule = plan(llm.model)
    early = EarlyExit(llm.model, rule)
    prompts = [torch.randint(0, 31, (n,)).tolist() for n in (3, 9, 17)]
    requests = [Request(prompt, max_tokens=20, temperature=0.0, ignore_eos=True) for prompt in prompts]
    outputs = Engine(LLM(early), numerics="exact").generate(requests)
    assert len(early.used) > 1, early.used
    for prompt, output in zip(prompts, outputs, strict=True):
        kept = list(prompt)
        with numerics("exact"):
            for _ in range(20):
                kept.append(int(early(torch.tensor([kept]))[0, -1].argmax()))
        assert output.tokens == kept[len(prompt) :]


def test_confidence() -> None:
    logits = torch.tensor([[0.0, 1.0, 3.0], [5.0, 5.0, 0.0]])
    probs = logits.softmax(-1)
    torch.testing.assert_close(confidence(logits), probs.amax(-1))
    torch.testing.assert_close(
        confidence(logits, "margin"), torch.stack((probs[0, 2] - probs[0, 1], torch.tensor(0.0)))
    )


@pytest.mark.parametrize("weigh", ["depth", "even"])
def test_loss_equals_the_formula(weigh: str) -> None:
    model, batch = build(dtype=torch.float32), counting()
    batch = replace(batch, weights=(torch.rand(batch.weights.shape) > 0.3).float())
    loss, metrics = Exits(Exits.Config(layers=(1, 3), weigh=weigh))(model, batch)
    terms = {}
    for layer in (1, 3, 4):
        shallow = Model(model.config.model_copy(update={"depth": layer}))
        shallow.load_state_dict({k: v for k, v in model.state_dict().items() if k in shallow.state_dict()})
        each = F.cross_entropy(shallow(batch.tokens).flatten(0, 1), batch.targets.flatten(), reduction="none")
        terms[layer] = (each * batch.weights.flatten()).sum() / batch.weights.sum()
        torch.testing.assert_close(metrics[f"exits/{layer}_cross_entropy"], terms[layer].detach())
    share = {1: 1, 3: 3, 4: 4} if weigh == "depth" else {1: 1, 3: 1, 4: 1}
    torch.testing.assert_close(loss, sum(share[i] * terms[i] for i in terms) / sum(share.values()))
    torch.testing.assert_close(terms[4], NextToken(NextToken.Config())(model, batch)[0])
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.slow
def test_trained_exits_save_layers_and_keep_the_answer() -> None:
    """A task that one layer solves: trained with exits most tokens leave at once; trained without, later."""
    found = {}
    for objective in (Exits(Exits.Config(layers=(1, 3))), NextToken(NextToken.Config())):
        model = build(dtype=torch.float32)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(80):
            loss, _ = objective(model, counting())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[type(objective)] = compare(model, ExitConfig(layers=(1, 3), threshold=0.9), counting().tokens)
    trained, plain = found[Exits], found[NextToken]
    assert trained.layers < 1.2 and trained.agreement > 0.99 and trained.flops < 0.65, trained
    assert plain.layers > trained.layers + 0.4, plain


def test_flops_are_counted_by_structure() -> None:
    model = build(dtype=torch.float32)
    rule, size = ExitConfig(layers=(1, 3)), count(model.config)
    ffn, head = 3 * 2 * 32 * 40, 2 * 32 * 31
    used = torch.tensor([[4, 3, 1, 1]])
    want = [size.flops + 2 * head, size.flops + head - ffn, *[size.flops - 3 * ffn] * 2]
    assert flops_left(model, rule, used) == pytest.approx(sum(want) / 4 / size.flops)


def test_the_same_tensors_and_nothing_saved_differently(tmp_path: Path) -> None:
    model = build(dtype=torch.float32)
    early = EarlyExit(model, ExitConfig(layers=(2,)))
    assert all(a is b for a, b in zip(model.parameters(), early.parameters(), strict=True))
    assert early.state_dict().keys() == model.state_dict().keys() and early.config is model.config


def test_misuse_is_explained() -> None:
    model = build()
    for layers in ((), (0,), (4,), (1, 9)):
        with pytest.raises(UsageError, match="exits lie after layers 1 to 3"):
            EarlyExit(model, ExitConfig(layers=layers))
    with pytest.raises(UsageError, match="exits lie after layers 1 to 4"):
        Exits(Exits.Config(layers=(5,)))(model, counting())
    routed = build(layers={"block": {"mixer": MIXERS[0], "depths": {"share": 0.5}}})
    with pytest.raises(UsageError, match="use one of them"):
        EarlyExit(routed, ExitConfig(layers=(1,)))
