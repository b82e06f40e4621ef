"""Rows and rules that the families with state-space layers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families.rule import TIED, Rule
from hanok.model.families.table import Json, get, put

BIASES = {(False, False): "none", (False, True): "conv", (True, False): "proj", (True, True): "all"}
LARGEST = 1 << 20  # multiple of the model's width that a file may name
MIXER = "layers.block.mixer."
STACK: Json = {"layers": {"block": {"ffn": None, "norm": {"kind": "rmsnorm"}}}, "norm": {"kind": "rmsnorm"}}
T, O = "backbone.layers.{l}.", "blocks.{l}."


@dataclass(frozen=True)
class WidthRow:
    """The inner width, which they give as a multiple of the model's."""

    theirs: str
    ours: str
    default: int = 2

    def read(self, theirs: Json, ours: Json) -> None:
        dim, expand = theirs.get("hidden_size"), theirs.get(self.theirs, self.default)
        if not isinstance(dim, int) or not isinstance(expand, int | float) or not 0 < expand < LARGEST:
            raise UsageError(f"config.json needs positive numbers 'hidden_size' and {self.theirs!r}")
        put(ours, self.ours, int(expand * dim))

    def write(self, ours: Json, theirs: Json) -> None:
        width, dim = get(ours, self.ours), ours["dim"]
        if width % dim:
            raise KeyError(self.ours)
        theirs[self.theirs] = width // dim


@dataclass(frozen=True)
class BiasRow:
    """Which of the projections and the convolution have biases: two booleans, with us one word."""

    proj: str
    conv: str
    ours: str

    def read(self, theirs: Json, ours: Json) -> None:
        put(ours, self.ours, BIASES[bool(theirs.get(self.proj, False)), bool(theirs.get(self.conv, True))])

    def write(self, ours: Json, theirs: Json) -> None:
        words = {word: flags for flags, word in BIASES.items()}
        theirs[self.proj], theirs[self.conv] = words[get(ours, self.ours)]


@dataclass(frozen=True)
class StepRow:
    """The range in which step sizes start."""

    ours: str = MIXER + "step"

    def read(self, theirs: Json, ours: Json) -> None:
        put(ours, self.ours, [theirs.get("time_step_min", 0.001), theirs.get("time_step_max", 0.1)])

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["time_step_min"], theirs["time_step_max"] = get(ours, self.ours)


def backbone(mixer: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules of a stack of mixers without feed-forward networks."""
    return (
        Rule("backbone.embeddings.weight", "embed.weight"),
        Rule("backbone.embedding.weight", "embed.weight"),  # as the authors' own files say
        Rule("backbone.norm_f.weight", "norm.weight"),
        Rule("lm_head.weight", "head.weight", TIED),
        Rule(T + "norm.weight", O + "mixer_norm.weight"),
        *mixer,
    )


def state_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rules that every state-space mixer has."""
    named = (("in_proj", "in_proj"), ("out_proj", "out"))
    return (
        *(Rule(f"{theirs}{a}.{p}", f"{ours}{b}.{p}") for a, b in named for p in ("weight", "bias")),
        Rule(theirs + "conv1d.weight", ours + "conv_weight"),
        Rule(theirs + "conv1d.bias", ours + "conv_bias"),
        Rule(theirs + "A_log", ours + "A_log"),
        Rule(theirs + "D", ours + "D"),
    )


def selective_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rules of a Mamba mixer, whose step size, input and output are projected from the token."""
    return (
        *state_rules(theirs, ours),
        Rule(theirs + "x_proj.weight", ours + "x_proj.weight"),
        Rule(theirs + "dt_proj.weight", ours + "dt_proj.weight"),
        Rule(theirs + "dt_proj.bias", ours + "dt_bias"),
    )


def read_rank(value: Any) -> int | None:
    """Return the size of the step's projection; `auto` is left for our own default, which is the same."""
    if value in ("auto", None):
        return None
    if not isinstance(value, int):
        raise UsageError(f"config.json: the rank of the step must be a whole number or 'auto', not {value!r}")
    return value
