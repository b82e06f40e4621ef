"""Multi-token prediction against its formula, the reference library's module, and files named as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel

from hanok.core.errors import UsageError
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.mtp import shifted
from hanok.model.size import count
from hanok.model.weights import load_model, save_model
from hanok.nn.context import Dense
from hanok.ops.numerics import numerics
from hanok.text.batch import Batch
from hanok.train.objective.clm import NextToken
from hanok.train.objective.mtp import MultiToken

V3 = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 77,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 128,
}


def build(depth: int = 2, dtype: torch.dtype = torch.float64, **mixer: Any) -> Model:
    block = {"mixer": {"kind": "gqa", "heads": 4, **mixer}, "ffn": {"kind": "swiglu", "hidden": 40}}
    config = {"vocab": 31, "dim": 32, "depth": 2, "layers": {"block": block}, "mtp": {"depth": depth}}
    return Model(ModelConfig.parse(config), seed=3).to(dtype)


def published(tmp_path: Path, modules: int, **changes: Any) -> tuple[Any, Any]:
    """Write a small DeepSeek-V3 as its files are published, modules behind the stack too; return both models."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model("deepseek_v3", **(V3 | changes), num_nextn_predict_layers=modules)
    main = transformers.AutoModelForCausalLM.from_config(config).eval()
    ahead = MtpModel(main, modules).eval()
    for parameter in main.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    for name, tensor in ahead.layers.state_dict().items():  # their class leaves some of them as memory was
        tensor.copy_(torch.randn_like(tensor) * 0.1 + ("norm" in name))
    main.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name, tensor in ahead.layers.state_dict().items():
        number, _, rest = name.partition(".")
        start = f"model.layers.{int(number) + V3['num_hidden_layers']}."
        rest = rest.removeprefix("mtp_block.").replace("post_norm", "shared_head.norm")
        if "mlp.experts.gate_up_proj" in rest:
            for e, part in enumerate(tensor):
                gate, up = part.chunk(2)
                tensors[f"{start}mlp.experts.{e}.gate_proj.weight"] = gate.clone()
                tensors[f"{start}mlp.experts.{e}.up_proj.weight"] = up.clone()
        elif "mlp.experts.down_proj" in rest:
            for e, part in enumerate(tensor):
                tensors[f"{start}mlp.experts.{e}.down_proj.weight"] = part.clone()
        else:
            tensors[start + rest] = tensor.clone()
    for number in range(modules):  # the copies that published files hold
        start = f"model.layers.{number + V3['num_hidden_layers']}."
        tensors[start + "embed_tokens.weight"] = main.model.embed_tokens.weight.data.clone()
        tensors[start + "shared_head.head.weight"] = main.lm_head.weight.data.clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return main, ahead


@torch.no_grad()
def test_equals_the_formula() -> None:
    """Equations 21 to 23, with nothing of ours but the block."""
    model, tokens = build(), torch.randint(0, 31, (2, 13))
    assert model.mtp is not None
    norm = lambda x, module: F.rms_norm(x, (32,), module.weight, 1e-6)  # noqa: E731
    hidden = model.hidden(tokens)
    for k, got in enumerate(model.mtp_logits(model.hidden(tokens), tokens), 1):
        module: Any = model.mtp[str(1 + k)]
        eps = module.norm.eps
        assert eps == model.config.norm.eps
        norm = lambda x, part: F.rms_norm(x, (32,), part.weight, eps)  # noqa: B023, E731
        table = F.embedding(tokens[:, k:], model.embed.weight)
        both = torch.cat((norm(table, module.token_norm), norm(hidden[:, : 13 - k], module.state_norm)), -1)
        hidden = norm(module.block(both @ module.proj.weight.T, Dense(tokens[:, k:])), module.norm)
        torch.testing.assert_close(got, hidden @ model.head.weight.T, rtol=1e-10, atol=1e-10)
        assert got.shape == (2, 13 - k, 31)


@pytest.mark.parametrize(
    "changes", [{}, {"q_lora_rank": None}, {"attention_bias": True, "rope_interleave": False}], ids=str
)
@torch.no_grad()
def test_published_files_equal_the_reference_library(changes: dict[str, Any], tmp_path: Path) -> None:
    main, ahead = published(tmp_path, 2, **changes)
    model, tokens = load_model(tmp_path), torch.randint(0, 101, (1, 40))
    assert model.config.mtp is not None and model.config.mtp.depth == 2 and model.config.mtp.layer == "moe"
    torch.testing.assert_close(model(tokens), main(tokens).logits, rtol=0, atol=1e-4)
    hidden = main.model(tokens).last_hidden_state
    cache = MtpCache(config=main.config.get_mtp_config())
    for k, got in enumerate(model.mtp_logits(model.hidden(tokens), tokens), 1):
        # What they hold at the places that have a token k further on, at those tokens' positions.
        hidden = ahead.forward_layer(
            k - 1, hidden[:, : 40 - k], torch.arange(k, 40)[None], cache, input_ids=tokens[:, k:]
        )
        torch.testing.assert_close(got, ahead.shared_head(hidden), rtol=0, atol=1e-4)


def test_published_files_round_trip(tmp_path: Path) -> None:
    published(tmp_path / "theirs", 1)
    model = load_model(tmp_path / "theirs")
    save_model(model, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    copies = {"model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight"}
    assert before.keys() - after.keys() == copies and not after.keys() - before.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["num_nextn_predict_layers"] == 1
    assert load_model(tmp_path / "ours").config == model.config


def test_a_promise_without_tensors_is_dropped_and_half_of_one_refused(tmp_path: Path) -> None:
    published(tmp_path, 1)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    half = {name: tensor for name, tensor in tensors.items() if name != "model.layers.3.eh_proj.weight"}
    save_file(half, file)
    with pytest.raises(UsageError, match=r"1 tensors are missing, the first is 'model.layers.3.eh_proj.weight'"):
        load_model(tmp_path)
    save_file({name: tensor for name, tensor in tensors.items() if ".layers.3." not in name}, file)
    assert load_model(tmp_path).config.mtp is None
    save_file(tensors, file)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 0}))
    with pytest.raises(UsageError, match=r"layers\.3.* has no place in this model"):
        load_model(tmp_path)


def test_our_own_format_round_trips(tmp_path: Path) -> None:
    model = build(dtype=torch.float32)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@torch.no_grad()
def test_token_by_token_equals_whole_sequences(mode: str) -> None:
    """What a speculative decoder does: main model and modules over the same pages, in chunks."""
    model, tokens = build(dtype=torch.float32, kv_heads=2), torch.randint(0, 31, (1, 40))
    assert model.mtp is not None
    with numerics(mode):
        want = model.mtp_logits(model.hidden(tokens), tokens)
        pool = Pool([*model.memory(), *model.mtp.memory()], 8, order="shuffled", seed=1)
        slot, parts, start = pool.open(), [[], []], 0
        for length in (7, 1, 1, 16, 1, 1, 13):
            pool.append(slot, length)
            ctx = Paged(pool, [Row(slot, start, length)])
            hidden = model.hidden(tokens[:, start : start + length], ctx)
            for k in (1, 2):
                hidden = model.ahead(hidden, shifted(tokens, k)[:, start : start + length], ctx, depth=k)
                parts[k - 1].append(model.logits(hidden))
            start += length
    for k, (got, whole) in enumerate(zip(parts, want, strict=True), 1):
        line = torch.cat(got, 1)[:, : 40 - k]
        torch.testing.assert_close(line, whole, rtol=1e-4, atol=1e-5)
        assert mode == "fast" or torch.equal(line, whole)


def rows(segments: Tensor | None = None) -> Batch:
    tokens = torch.randint(0, 31, (3, 14))
    weights = (torch.rand(3, 13) > 0.3).float()
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, torch.arange(13).expand(3, -1), segments)


def test_loss_equals_equations_24_and_25() -> None:
    model, batch = build(dtype=torch.float32), rows()
    loss, metrics = MultiToken(MultiToken.Config(weight=0.3))(model, batch)
    first, _ = NextToken(NextToken.Config())(model, batch)
    extra = []
    for k, logits in enumerate(model.mtp_logits(model.hidden(batch.tokens), batch.tokens), 1):
        each = F.cross_entropy(logits.flatten(0, 1), batch.targets[:, k:].flatten(), reduction="none")
        extra.append((each * batch.weights[:, k:].flatten()).sum() / batch.weights.sum())
        torch.testing.assert_close(metrics[f"mtp/{k}_cross_entropy"], extra[-1].detach())
    torch.testing.assert_close(loss, first + 0.3 * sum(extra) / 2)
    assert torch.equal(MultiToken(MultiToken.Config(weight=0.0))(model, batch)[0], first)


def test_gradient_reaches_every_parameter_and_silent_targets_none() -> None:
    model, batch = build(dtype=torch.float32), rows()
    MultiToken(MultiToken.Config())(model, batch)[0].backward()
    grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]
    assert all(grad.abs().sum() > 0 for grad in grads.values())
    model.zero_grad()
    silent = torch.where(batch.weights == 0, (batch.targets + 7) % 31, batch.targets)
    changed = Batch(batch.tokens, silent, batch.weights, batch.positions)
    MultiToken(MultiToken.Config())(model, changed)[0].backward()
    assert all(torch.equal(grads[name], parameter.grad) for name, parameter in model.named_parameters())  # type: ignore[arg-type]


def test_packed_documents_are_as_if_alone() -> None:
    model, lengths = build(dtype=torch.float32), (5, 8)
    segments = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)]).expand(3, -1)
    batch = rows(segments)
    batch = Batch(
        batch.tokens,
        batch.targets,
        batch.weights,
        torch.cat([torch.arange(n) for n in lengths]).expand(3, -1),
        segments,
    )
    objective = MultiToken(MultiToken.Config())
    parts, total = [], batch.weights.sum()
    for part in (slice(0, 5), slice(5, 13)):
        columns = (batch.tokens, batch.targets, batch.weights, batch.positions)
        alone = Batch(*(x[:, part] for x in columns))
        parts.append(objective(model, alone)[0] * objective.count(alone) / total)
    torch.testing.assert_close(objective(model, batch)[0], sum(parts), rtol=1e-5, atol=1e-6)


def test_modules_learn_what_lies_further_ahead() -> None:
    """Rows that count upwards: after a few dozen steps the second and third token ahead are known too."""
    model = build(dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    objective = MultiToken(MultiToken.Config())
    for _ in range(60):
        line = (torch.randint(0, 31, (8, 1)) + torch.arange(13)) % 31
        batch = Batch(line[:, :-1], line[:, 1:], torch.ones(8, 12), torch.arange(12).expand(8, -1))
        loss, metrics = objective(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["mtp/1_accuracy"] > 0.95 and metrics["mtp/2_accuracy"] > 0.95


def test_costs_count_apart() -> None:
    plain, more = build().config.model_copy(update={"mtp": None}), build(1).config
    a, b = count(plain), count(more)
    assert (a.flops, a.cache_numbers) == (b.flops, b.cache_numbers)
    assert b.params - a.params == 2 * 32 * 32 + 3 * 32 + 4 * 32 * 32 + 3 * 32 * 40 + 2 * 32
    assert b.params_active - a.params_active == 5 * 32, "the norms alone"


def test_misuse_is_explained() -> None:
    plain = Model(build().config.model_copy(update={"mtp": None}))
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(UsageError, match="without mtp"):
        plain.ahead(plain.hidden(tokens), tokens, Dense(tokens))
    with pytest.raises(UsageError, match="built with mtp"):
        MultiToken(MultiToken.Config())(plain, rows())
    model = build(dtype=torch.float32)
    with pytest.raises(UsageError, match="up to 2 tokens"):
        model.ahead(model.hidden(tokens), tokens, Dense(tokens), depth=3)
    with pytest.raises(UsageError, match=r"mtp.layer is 'blok'.*\['block'\]"):
        ModelConfig.parse({**build().config.to_dict(), "mtp": {"layer": "blok"}})
