"""What mixtures of experts in LLaMA's layout share: their part of a template, and which layers have it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families.decoder import GATE_UP_DOWN, GatedRow, O, T, matrices
from hanok.model.families.pattern import Kinds
from hanok.model.families.rule import Rule
from hanok.model.families.table import REQUIRED, Json, Key, Row, put

MOE: Json = {"kind": "moe", "router": {"kind": "topk"}, "expert": {"kind": "swiglu"}}
NORMALISE: Json = {
    "default": False,
    "read_as": lambda value: "sum" if value else "none",
    "write_as": lambda word: {"sum": True, "none": False}[word],
}


@dataclass(frozen=True)
class Start:
    """A part that the rows after this one complete; their config has no key for it."""

    ours: str
    part: Any

    def read(self, theirs: Json, ours: Json) -> None:
        put(ours, self.ours, copy.deepcopy(self.part))

    def write(self, ours: Json, theirs: Json) -> None:
        """There is nothing to write."""


def chosen(ffn: str, *, per_token: int, balance: float, hidden: str) -> tuple[Row, ...]:
    """Return the rows of a mixture at the path `ffn`, whose experts' width is in the key `hidden`."""
    return (
        Key("num_experts_per_tok", (ffn + ".router.per_token",), per_token),
        Key("router_aux_loss_coef", (ffn + ".router.balance",), balance),
        Key(hidden, (ffn + ".expert.hidden",), REQUIRED),
        GatedRow(ours=ffn + ".expert"),
    )


def sparse(dense: Sequence[Row], mixture: Sequence[Row]) -> Kinds:
    """Return the kinds of `decoder_sparse_step` and `mlp_only_layers`: dense layers, and sparse ones with a mixture."""
    return Kinds(_read, _tell, _write, {"dense": tuple(dense), "sparse": (Start("ffn", MOE), *mixture)})


def _read(theirs: Json, depth: int) -> Sequence[str]:
    step: Any = theirs.get("decoder_sparse_step", 1)
    plain: Any = theirs.get("mlp_only_layers") or []
    experts: Any = theirs.get("num_experts", theirs.get("num_local_experts", 1))
    if not isinstance(step, int) or step < 1 or not isinstance(experts, int):
        raise UsageError("config.json: decoder_sparse_step must be a whole number above 0, num_experts one from 0")
    if not isinstance(plain, list):
        raise UsageError(f"config.json: mlp_only_layers must be a list of layers, not {plain!r}")
    mixed = [experts > 0 and layer not in plain and (layer + 1) % step == 0 for layer in range(depth)]
    return ["sparse" if mixes else "dense" for mixes in mixed]


def _tell(block: Json) -> str:
    return "sparse" if block["ffn"] and block["ffn"]["kind"] == "moe" else "dense"


def _write(words: Sequence[str], theirs: Json) -> None:
    """Say it by a step alone where that can be said, otherwise by the list of dense layers."""
    steps = range(1, len(words) + 1)
    told = (step for step in steps if _read({"decoder_sparse_step": step}, len(words)) == list(words))
    step = next(told, None)
    theirs["decoder_sparse_step"] = step or 1
    theirs["mlp_only_layers"] = [] if step else [layer for layer, word in enumerate(words) if word == "dense"]


ROUTER = Rule(T + "mlp.gate.weight", O + "ffn.router.weight")
EXPERTS = matrices(T + "mlp.experts.{e}.", O + "ffn.experts.", GATE_UP_DOWN)
