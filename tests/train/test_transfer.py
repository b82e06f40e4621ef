"""Rates that carry over: what grows, the coordinate check over widths and depths, and the base left as it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.stages import PretrainConfig
from hanok.train.transfer import adapted, growths, restart

CLM = NextToken(NextToken.Config())
VOCAB = 64
RATES = {"adamw": 5e-3, "adafactor": 0.05, "lion": 1e-3, "muon": 0.02, "soap": 5e-3, "sophia": 1e-3}


def config(preset: str, embeddings: str = "tied", **dials: int) -> ModelConfig:
    made = ModelConfig.preset(preset, **{"vocab": VOCAB, "context": 64, "depth": 2, **dials})
    return made.model_copy(update={"embeddings": embeddings})


def rows() -> Batch:
    g = torch.Generator().manual_seed(1)
    x = (3 * torch.randint(0, VOCAB, (8, 1), generator=g) + torch.arange(9) ** 2) % VOCAB
    return Batch(x[:, :-1], x[:, 1:], torch.ones(8, 8), torch.arange(8).expand(8, -1))


def scales(wide: ModelConfig, base: ModelConfig | None, kind: str, power: float = 1.0) -> dict[str, float]:
    """Return typical sizes of the last block's output and of the logits: at first, and of their change by training."""
    model = Model(wide if base is None else adapted(wide, base, power))
    grown = None
    if base is not None:
        grown = growths(model, base, power)
        restart(model, base, grown)
    part = OPTIMIZERS[kind]
    optimizer = part(part.Config.parse({"kind": kind, "lr": RATES[kind]}), model, grown)
    batch = rows()

    def look() -> tuple[torch.Tensor, torch.Tensor]:
        found: list[torch.Tensor] = []
        handle = model.blocks[-1].register_forward_hook(lambda _, __, out: found.append(out.detach()))
        with torch.no_grad():
            logits = model(batch.tokens)
        handle.remove()
        return found[0], logits

    first, first_logits = look()
    for _ in range(4):
        CLM(model, batch)[0].backward()
        optimizer.step(1.0)
        model.zero_grad()
    last, last_logits = look()
    moved, moved_logits = (last - first).std(), (last_logits - first_logits).std()
    return {"stream": float(first.std()), "moved": float(moved), "logits moved": float(moved_logits)}


@pytest.mark.parametrize(
    "preset, kind", [*(("llama-tiny", kind) for kind in sorted(RATES)), ("mamba-tiny", "adamw"), ("moe-tiny", "muon")]
)
def test_coordinate_check_over_widths(preset: str, kind: str) -> None:
    """Eight times the width changes what a few steps do to activations by less than a half; logits do not grow.

    Without the transfer (the control arm), logits move further and further with the width.
    """
    narrow = config(preset, dim=16)
    small, large = (scales(config(preset, dim=dim), narrow, kind) for dim in (16, 128))
    assert 0.6 < large["stream"] / small["stream"] < 1.6
    assert 0.5 < large["moved"] / small["moved"] < 1.6
    assert large["logits moved"] / small["logits moved"] < 1.15
    control = [scales(config(preset, dim=dim), None, kind) for dim in (16, 128)]
    assert control[1]["logits moved"] / control[0]["logits moved"] > 1.3


def test_depth_keeps_what_training_does_to_the_stream() -> None:
    """Four times the depth: with power 0.5 the stream and its change stay; with power 1 what layers write at first,
    which is random, adds up to less. Without the transfer (the control arm) each layer learns at the full rate.
    """
    base = config("llama-tiny", "untied", dim=32)
    deep = config("llama-tiny", "untied", dim=32, depth=8)
    small = scales(base, base, "adamw")
    half, full = scales(deep, base, "adamw", power=0.5), scales(deep, base, "adamw")
    assert 0.7 < half["stream"] / small["stream"] < 1.4 and 0.7 < half["moved"] / small["moved"] < 1.4
    assert full["stream"] < 0.8 * half["stream"] and 0.35 < full["moved"] / small["moved"] < 1.2
    assert scales(deep, None, "adamw")["moved"] > 1.3 * half["moved"]
    assert adapted(deep, base).layers["block"].residual == 1 / 4
    paces = growths(Model(adapted(deep, base, 0.5)), base, 0.5)
    assert paces["blocks.3.mixer.q.weight"].pace == 0.5
    assert paces["head.weight"].pace == 1


@pytest.mark.parametrize("embeddings", ["tied", "untied"])
def test_the_base_itself_is_left_as_it_is(embeddings: str) -> None:
    base = config("llama-tiny", embeddings, dim=32)
    assert adapted(base, base) == base
    model, before = Model(base), Model(base)
    grown = growths(model, base)
    restart(model, base, grown)
    assert all(growth == growths(before, base)[name] for name, growth in grown.items())
    assert {(g.inputs, g.outputs, g.start, g.pace) for g in grown.values()} == {(1.0, 1.0, 1.0, 1.0)}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_growth_is_read_from_shapes() -> None:
    base, wide = config("moe-tiny", "untied", dim=32), config("moe-tiny", "untied", dim=128)
    model = Model(adapted(wide, base))
    grown = growths(model, base)
    assert (grown["embed.weight"].inputs, grown["embed.weight"].start) == (1, 1)
    assert (grown["head.weight"].inputs, grown["head.weight"].start) == (4, 0.25)
    assert (grown["blocks.0.mixer.q.weight"].inputs, grown["blocks.0.mixer.q.weight"].start) == (4, 0.5)
    assert grown["norm.weight"] == grown["embed.weight"]
    names = [name for name in grown if "ffn.router" in name or "down" in name]
    assert len(names) == 4 and all(grown[name].inputs > 2 for name in names)
    mixer = model.config.layers["block"].mixer
    assert mixer.model_dump()["scale"] == pytest.approx(math.sqrt(32 / 4) / (128 / 4))  # 1 / d, equal at the base
    assert model.head is not None
    head = model.head.weight.detach().clone()
    restart(model, base, grown)
    torch.testing.assert_close(model.head.weight.detach(), head / 2)
    assert float(model.embed.weight.detach().std()) == pytest.approx(32**-0.5, rel=0.05)


def test_tied_logits_are_divided_and_the_table_keeps_its_scale() -> None:
    base, wide = config("llama-tiny", dim=32), adapted(config("llama-tiny", dim=128), config("llama-tiny", dim=32))
    assert wide.head is not None and wide.head.scale == 0.25
    model = Model(wide)
    restart(model, base, growths(model, base))
    assert float(model.embed.weight.detach().std()) == pytest.approx(32**-0.5, rel=0.05)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match="same layer templates"):
        adapted(config("griffin-tiny", dim=32, depth=3), config("llama-tiny", dim=32))
    model = Model(config("llama-tiny", dim=64))
    with pytest.raises(UsageError, match="widths and depth alone"):
        growths(model, config("mamba-tiny", dim=32))


def test_config_says_what_is_wrong() -> None:
    options: dict[str, Any] = {"steps": 1, "dials": {"dim": 64}, "transfer": {"dials": {"dim": 32}}}
    assert PretrainConfig.parse(options).base(99).dim == 32
    assert PretrainConfig.parse(options).architecture(99).head is not None
    with pytest.raises(UsageError, match="dimm"):
        PretrainConfig.parse({**options, "transfer": {"dials": {"dimm": 32}}})
    with pytest.raises(UsageError, match="given by its dials"):
        PretrainConfig.parse({**options, "transfer": {"model": config("llama-tiny").to_dict()}})
