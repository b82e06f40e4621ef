"""A refused step, taken again from its bundle: does it fail again, where first, and by which row."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hanok.core.artifact import ArtifactError, file_sha256
from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.hook.spike import BATCHES, BUNDLE, FIELDS, WEIGHTS, gradient_norms
from hanok.train.loop import LoopConfig, accumulate, computing
from hanok.train.objective import OBJECTIVES
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.state import TrainState


@dataclass(frozen=True)
class Row:
    """One row of the step, alone: its loss and the norm of its gradient."""

    batch: int
    row: int
    loss: float
    norm: float
    tokens: list[int]


@dataclass(frozen=True)
class Findings:
    """What taking a step again has shown; `causes` are in the order in which they come about."""

    step: int
    recorded: dict[str, float]
    again: dict[str, float]
    usual_norm: float | None
    causes: list[str]
    layers: dict[str, tuple[float, float]]  # gradient norm of each parameter: recorded, again
    rows: list[Row] = field(default_factory=list)

    @property
    def repeats(self) -> bool:
        """Return whether the figures are those that were recorded, to the bit."""
        return all(_same(self.recorded[name], self.again[name]) for name in ("loss", "grad_norm"))


def replay(path: Path, *, weights: Path | None = None) -> Findings:
    """Take the step of a bundle again, with its own weights or those of another file, and look where it goes wrong."""
    told = read_bundle(path)
    model, objective, batches = _model(path, told, weights), _objective(told), _batches(path, told)
    loop = LoopConfig.parse({**told["loop"], "compile": "none"})
    causes = [*_bad_tensors("weights", dict(model.named_parameters())), *_bad_batches(batches)]
    state = TrainState(model, AdamW(AdamWConfig(), model), None, 1, rng=Streams(0))  # type: ignore[arg-type]
    if told["torch_rng"]:
        torch.set_rng_state(torch.frombuffer(bytearray(base64.b64decode(told["torch_rng"])), dtype=torch.uint8))
    with computing(loop, state):
        with FirstBadOutput(model) as first:
            figures = accumulate(state, objective, batches, loop)
        figures["grad_norm"] = state.ranks.norm(state.optimizer.parameters)
        again = {name: float(value) for name, value in figures.items()}
        layers = gradient_norms(model)
        rows = _rows(state, objective, batches, loop)
    if first.name is not None:
        causes.append(f"forward: the output of {first.name} is the first that is not finite")
    bad = [name for name, found in layers.items() if found["not_finite"]]
    if bad and first.name is None:
        causes.append(
            f"backward: gradients are not finite in {len(bad)} of {len(layers)} parameters, {bad[-1]} among them"
        )
    was = {name: float(found["norm"]) for name, found in told["layers"].items()}
    both = {name: (was.get(name, math.nan), float(found["norm"])) for name, found in layers.items()}
    recorded = {name: float(value) for name, value in told["record"].items()}
    return Findings(told["step"], recorded, again, told["usual_norm"], causes, both, rows)


def read_bundle(path: Path) -> dict[str, Any]:
    """Return what a bundle says, after checking that its files are as they were written."""
    try:
        told: dict[str, Any] = json.loads((path / BUNDLE).read_text(encoding="utf-8"))
        for name, expected in told["sha256"].items():
            if file_sha256(path / name) != expected:
                raise ArtifactError(f"{path / name} has changed since it was written (sha256 differs)")
    except FileNotFoundError as error:
        raise UsageError(f"{path} is no whole bundle of a refused step: {error.filename} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise UsageError(f"{path / BUNDLE} is damaged: {error!r}") from None
    return told


def _model(path: Path, told: dict[str, Any], weights: Path | None) -> Model:
    if told["model"] is None:
        raise UsageError(f"{path}: the run trained something else than one of our models; it cannot be built again")
    file = path / WEIGHTS if weights is None else weights
    if not file.is_file():
        raise UsageError(f"{file} is not there: give the weights of that step (--weights CHECKPOINT/{WEIGHTS})")
    model, saved = Model(ModelConfig.parse(told["model"])), load_file(file)
    places = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if missing := sorted(set(places) - set(saved)):
        raise UsageError(f"{file} belongs to another model: it lacks {missing[0]!r}")
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(saved[name])
    return model


def _objective(told: dict[str, Any]) -> Any:
    config = told["objective"]
    if config is None or config.get("kind") not in OBJECTIVES:
        raise UsageError(f"the run's objective {config!r} is none of ours: it cannot be built again")
    kind = OBJECTIVES[config["kind"]]
    return kind(kind.Config.parse(config))


def _batches(path: Path, told: dict[str, Any]) -> list[Batch]:
    tensors, found = load_file(path / BATCHES), []
    for number in range(told["micro_batches"]):
        own = {k.removeprefix(f"{number}."): v for k, v in tensors.items() if k.startswith(f"{number}.")}
        columns = {k.removeprefix("columns."): v for k, v in own.items() if k.startswith("columns.")}
        found.append(Batch(**{name: own.get(name) for name in FIELDS}, columns=columns))  # type: ignore[arg-type]
    return found


def _bad_tensors(what: str, tensors: dict[str, Tensor]) -> list[str]:
    found = []
    for name, tensor in tensors.items():
        bad = (~tensor.detach().isfinite()).nonzero()
        if len(bad):
            found.append(f"{what}: {name} has {len(bad)} numbers that are not finite, the first at {bad[0].tolist()}")
    return found


def _bad_batches(batches: list[Batch]) -> list[str]:
    found = []
    for number, batch in enumerate(batches):
        found += _bad_tensors(f"batch {number}", {"weights": batch.weights, **batch.columns})
        if not float(batch.weights.sum()):
            found.append(f"batch {number}: no target has any weight")
    return found


class FirstBadOutput:
    """Notes the first module, in the order of computation, whose output is not finite."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.name: str | None = None

    def __enter__(self) -> FirstBadOutput:
        self._handles = [
            module.register_forward_hook(lambda _m, _i, out, name=name: self._look(name, out))
            for name, module in self.model.named_modules()
            if name
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _look(self, name: str, out: Any) -> None:
        if self.name is None and isinstance(out, Tensor) and not bool(out.detach().isfinite().all()):
            self.name = name


def _rows(state: TrainState, objective: Any, batches: list[Batch], loop: LoopConfig) -> list[Row]:
    """Return every row alone (pairs together, where an objective compares them), the worst first."""
    size = 2 if objective.config.kind == "dpo" else 1
    found = []
    for number, batch in enumerate(batches):
        for start in range(0, len(batch.tokens), size):
            part = _part(batch, slice(start, start + size))
            if not float(objective.count(part)):
                continue
            for parameter in state.optimizer.parameters:
                parameter.grad = None
            figures = accumulate(state, objective, [part], loop)
            norm = float(state.ranks.norm(state.optimizer.parameters))
            found.append(Row(number, start, float(figures["loss"]), norm, part.tokens[0].tolist()))
    return sorted(found, key=lambda row: (math.isfinite(row.norm), -row.norm if math.isfinite(row.norm) else 0.0))


def _part(batch: Batch, rows: slice) -> Batch:
    fields: dict[str, Any] = {name: None if (x := getattr(batch, name)) is None else x[rows] for name in FIELDS}
    return Batch(**fields, columns={name: value[rows] for name, value in batch.columns.items()})


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def verdict(found: Findings) -> str:
    """Return in one sentence what the step was: bad data, bad weights, a spike that repeats, or none of these."""
    again = found.again["grad_norm"]
    if found.causes:
        return found.causes[0]
    if found.usual_norm is not None and again > 4 * found.usual_norm:
        return f"a spike that repeats: the gradient norm is {again:.3g}, usually {found.usual_norm:.3g}"
    if not found.repeats:
        return (
            f"it does not repeat: the gradient norm was {found.recorded['grad_norm']:.3g} and is now {again:.3g}; what "
            "went wrong lies neither in the batch nor in the weights (memory, a kernel, another process)"
        )
    return "it repeats, and every number is finite: the limit was lower than this step's gradient"
