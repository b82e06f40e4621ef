"""How far do positions reach? The same tiny model with each scheme, trained on short rows and measured on long ones."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import CHECKPOINTS, Stage, run_stage
from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.model import Model
from hanok.model.size import count
from hanok.model.weights import load_model
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.mixer.gqa import GQA
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position
from hanok.text.data.shard import Shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.data import shards_of
from hanok.train.stages import PretrainConfig, pretrain

TRIAL_STEPS = 12
FIXED = 0.2  # of the minutes: data, trials and measuring
Rescaling = Literal["linear", "ntk", "yarn", "window"]
COLUMNS = ("bits_per_byte", "se", "pieces", "gain", "gain_se")
Rows = list[dict[str, Any]]


class PositionsConfig(Config):
    """Which schemes to compare, on rows of which `length` they learn, and up to which length they are measured.

    All are trained for the same `steps` (unless given: those that fit all of them into `minutes`) on the same rows from
    the same seed. The trained RoPE model is measured again with its frequencies changed (`scalings`, by upto / length),
    and with attention cut to the last `length` tokens, which is what a scheme has to beat.
    """

    positions: tuple[str, ...] = ("rope", "alibi", "none", "learned", "sinusoidal", "t5")
    scalings: tuple[Rescaling, ...] = ("linear", "ntk", "yarn", "window")
    length: int = Field(default=64, ge=8)
    upto: int = Field(default=512, ge=16)
    minutes: float | None = Field(default=2.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    dim: int = Field(default=96, ge=8)
    depth: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    batch: int = Field(default=16, ge=1)
    evaluation_tokens: int = Field(default=32768, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        ratio = self.upto // self.length
        if self.upto != self.length * ratio or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(f"upto must be 2, 4, 8, ... times the length {self.length}, not {self.upto}")
        if not self.positions or len(set(self.positions)) < len(self.positions):
            raise ValueError("name at least one position scheme, and each once")
        try:
            for kind in self.positions:
                self.architecture(kind, vocab=8)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def bands(self) -> list[tuple[int, int]]:
        """Return the ranges of positions that are measured: up to 1 length, from there to 2 lengths, then 4, ..."""
        ends = [self.length << k for k in range((self.upto // self.length).bit_length())]
        return list(zip([0, *ends], ends, strict=False))

    def architecture(self, kind: str, vocab: int) -> ModelConfig:
        """Return the model with one scheme, at the embedding if that is where it acts.

        A learned table has `upto` rows, of which training reaches the first `length`; fixed sines are added to
        embeddings multiplied by sqrt(dim), as in the paper.
        """
        scheme = POSITIONS[kind]
        position = scheme.Config.parse({"length": self.upto} if "length" in scheme.Config.model_fields else {})
        embed, inside = EmbedConfig(), position
        if scheme.add is not Position.add:
            learned = any(True for _ in scheme(position, self.dim).parameters())
            embed = EmbedConfig(position=position, scale=1.0 if learned else self.dim**0.5)
            inside = POSITIONS["none"].Config()
        block = BlockConfig(mixer=GQA.Config(heads=self.heads, position=inside), ffn=SwiGLU.Config())
        return ModelConfig(
            vocab=vocab,
            dim=self.dim,
            depth=self.depth,
            layers={"block": block},
            context=self.upto,
            embeddings="tied",
            embed=embed,
        )

    def recipe(self, kind: str, vocab: int, steps: int) -> PretrainConfig:
        """Return how one scheme is trained."""
        return PretrainConfig(
            model=self.architecture(kind, vocab), steps=steps, batch=self.batch, length=self.length, seed=self.seed
        )


def compare_positions(config: PositionsConfig, inputs: Mapping[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Train every scheme, measure each at every range of positions, and write results.json, results.csv, table.md."""
    tokens, folder = inputs["tokens"], out / CHECKPOINTS
    held = held_out(config, tokens)
    sizes = torch.tensor(Tokenizer.load(tokens).byte_lengths())[held[:, 1:]].double()
    steps = choose_steps(config, tokens, out, log)
    rows: Rows = []
    for number, kind in enumerate(config.positions, 1):
        log.progress(f"positions: {kind} ({number}/{len(config.positions)}), {steps} steps")
        trained = _train(config, kind, steps, tokens, folder)
        model = load_model(trained.path)
        facts = {"scheme": kind, "change": "", "parameters": count(model.config).params}
        facts["train_loss"] = trained.metrics.get("train/loss", trained.metrics.get("loss"))
        pieces = read(model, held, config.length)
        rows.append(facts | figures(read(model, held, config.upto), pieces, sizes, config.bands))
        for change in config.scalings if kind == "rope" else ():
            log.progress(f"positions: rope with {change}")
            bits = read(rescaled(model, change, config), held, config.upto)
            rows.append(facts | {"change": change} | figures(bits, pieces, sizes, config.bands))
    results = {
        "length": config.length,
        "bands": config.bands,
        "steps": steps,
        "trained_tokens": steps * config.batch * config.length,
        "measured_windows": len(held),
        "unit": (
            "bits per byte of held-out text at these positions, se: standard error over windows; pieces: the same text "
            "read by the model as trained in rows of its training length; gain: what the longer past saves, paired"
        ),
        "rows": rows,
        "verdicts": verdicts(rows, config),
    }
    atomic_write(out / "results.json", json.dumps(results, indent=2) + "\n")
    atomic_write(out / "results.csv", as_csv(results))
    atomic_write(out / "table.md", as_markdown(results))
    last = len(config.bands) - 1
    return {"steps": steps, **{label(row): row["bits_per_byte"][last] for row in rows}}


def held_out(config: PositionsConfig, tokens: Path) -> torch.Tensor:
    """Return windows (n, upto + 1) of held-out tokens."""
    valid = shards_of(tokens, "valid")
    if valid is None:
        raise UsageError(f"{tokens} holds no validation shards (valid/index.json), which schemes are measured on")
    shards = Shards(valid)
    windows = min(config.evaluation_tokens, len(shards) - 1) // config.upto
    if windows < 2:
        raise UsageError(
            f"{valid} holds {len(shards)} tokens: measuring up to {config.upto} needs {2 * config.upto + 1} or more"
        )
    return torch.from_numpy(np.stack([shards.read(i * config.upto, (i + 1) * config.upto + 1) for i in range(windows)]))


def choose_steps(config: PositionsConfig, tokens: Path, out: Path, log: Log) -> int:
    """Return the steps asked for, or those that fit the minutes for all schemes, from a short trial of each."""
    if config.steps is not None:
        return config.steps
    assert config.minutes is not None
    file = out / "plan.json"
    if not file.is_file():
        seconds = 0.0
        for kind in config.positions:
            log.progress(f"positions: timing {kind}")
            trial = _train(config, kind, TRIAL_STEPS, tokens, out / CHECKPOINTS / "trials")
            seconds += config.batch * config.length / float(trial.metrics["tokens_per_second"])
        steps = max(TRIAL_STEPS, int(60 * config.minutes * (1 - FIXED) / seconds))
        atomic_write(file, json.dumps({"steps": steps, "seconds_of_a_step_of_all": seconds}, indent=2) + "\n")
    return int(json.loads(file.read_text(encoding="utf-8"))["steps"])


@torch.no_grad()
def read(model: Model, held: torch.Tensor, length: int) -> torch.Tensor:
    """Return the bits (n, T) of the targets of windows (n, T + 1), read in rows of a length."""
    parts = []
    for rows in held.split(8):
        tokens, targets = rows[:, :-1].reshape(-1, length), rows[:, 1:].reshape(-1)
        loss = torch.nn.functional.cross_entropy(model(tokens).float().flatten(0, 1), targets, reduction="none")
        parts.append(loss.view(len(rows), -1).double() / math.log(2))
    return torch.cat(parts)


def figures(
    bits: torch.Tensor, pieces: torch.Tensor, sizes: torch.Tensor, bands: Sequence[tuple[int, int]]
) -> dict[str, list[float]]:
    """Return bits per byte at each range of positions, whole and in pieces, and the gain, with standard errors."""
    found: dict[str, list[float]] = {name: [] for name in ("bits_per_byte", "se", "pieces", "gain", "gain_se")}
    for start, end in bands:
        size = sizes[:, start:end].sum(1)
        whole, cut = bits[:, start:end].sum(1), pieces[:, start:end].sum(1)
        pairs = (("bits_per_byte", "se", whole), ("gain", "gain_se", cut - whole))
        for name, error, total in pairs:
            rate, spread = _rate(total, size)
            found[name].append(rate)
            found[error].append(spread)
        found["pieces"].append(float(cut.sum() / size.sum()))
    return found


def rescaled(model: Model, change: Rescaling, config: PositionsConfig) -> Model:
    """Return the same weights under other frequencies, or with attention cut to the length that was trained."""
    factor, length = config.upto / config.length, config.length
    scaling: dict[str, Any] = {
        "linear": {"kind": "linear", "factor": factor},
        "ntk": {"kind": "dynamic", "factor": 1.0, "original_context": length, "length": config.upto},
        "yarn": {"kind": "yarn", "factor": factor, "original_context": length},
    }
    data = model.config.to_dict()
    mixer = data["layers"]["block"]["mixer"]
    if change == "window":
        mixer["window"] = length
    else:
        mixer["position"]["scaling"] = scaling[change]
    changed = Model(ModelConfig.parse(data))
    changed.load_state_dict(model.state_dict())
    return changed


def verdicts(rows: Rows, config: PositionsConfig) -> list[str]:
    """Say of each row whether, in the last range, the long past helps or hurts beyond noise (two standard errors)."""
    said, times = [], config.upto // config.length
    for row in rows:
        gain, noise = row["gain"][-1], 2 * row["gain_se"][-1]
        word = (
            "the longer past helps" if gain > noise else "it hurts" if -gain > noise else "no difference beyond noise"
        )
        said.append(
            f"{label(row)}: {row['bits_per_byte'][-1]:.3f} bits/byte at {times}x the trained length, "
            f"{row['pieces'][-1]:.3f} read in pieces of {config.length}: {word} ({-gain:+.3f} ± {noise:.3f})"
        )
    return said


def label(row: Mapping[str, Any]) -> str:
    """Return the name of a row."""
    return str(row["scheme"]) + (f" + {row['change']}" if row["change"] else "")


def as_csv(results: Mapping[str, Any]) -> str:
    """Return one line for each scheme and range of positions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("scheme", "change", "from", "to", "times_trained", *COLUMNS))
    for row in results["rows"]:
        for i, (start, end) in enumerate(results["bands"]):
            place = (row["scheme"], row["change"], start, end, end // results["length"])
            writer.writerow((*place, *(row[name][i] for name in COLUMNS)))
    return text.getvalue()


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the table that people read."""
    heads = [f"{end // results['length']}x ({start}-{end - 1})" for start, end in results["bands"]]
    lines = ["| scheme | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in results["rows"]:
        cells = [f"{bits:.3f} ± {error:.3f}" for bits, error in zip(row["bits_per_byte"], row["se"], strict=True)]
        lines.append(f"| {label(row)} | " + " | ".join(cells) + " |")
    facts = f"{results['steps']} steps of rows of {results['length']} tokens, {results['measured_windows']} windows"
    return "\n".join([*lines, "", f"Bits per byte ± standard error; {facts}.", "", *results["verdicts"], ""])


def _train(config: PositionsConfig, kind: str, steps: int, tokens: Path, folder: Path) -> Artifact:
    vocab = Tokenizer.load(tokens).vocab_size
    stage = Stage("scheme", "model", PretrainConfig, partial(pretrain, measure=_later), {"tokens": "tokens"})
    return run_stage(stage, config.recipe(kind, vocab, steps), {"tokens": tokens}, folder, log=Log(None, quiet=True))


def _rate(bits: torch.Tensor, size: torch.Tensor) -> tuple[float, float]:
    """Return the ratio of two sums over windows, and its standard error."""
    rate, n = float(bits.sum() / size.sum()), len(bits)
    spread = float((bits - rate * size).square().sum()) * n / (n - 1)
    return rate, math.sqrt(spread) / float(size.sum())


def _later(_: Model) -> dict[str, float]:
    """Measure nothing while a scheme trains; all are measured alike at the end."""
    return {}


POSITIONS_STAGE = Stage("positions", "comparison", PositionsConfig, compare_positions, {"tokens": "tokens"})
