"""Switch Transformer: a T5 in which the feed-forward networks of some layers are mixtures of experts, one to a token.

An expert takes `expert_capacity` tokens of a row, and later ones get nothing: see `nn/router/switch.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.decoder import Only
from hanok.model.families.pattern import shortest
from hanok.model.families.rule import Rule
from hanok.model.families.t5 import StacksRow, shared_rules
from hanok.model.families.table import Always, Family, Json

ACTIVATION = "dense_act_fn"
WORDS = ("relu", "gelu", "gelu_new", "silu")
ROUTER = {
    "capacity": ("expert_capacity", 64),
    "balance": ("router_aux_loss_coef", 0.001),
    "z": ("router_z_loss_coef", 0.001),
}


@dataclass(frozen=True)
class SparseRow:
    """T5's stacks, with a mixture in every so many layers of each."""

    def read(self, theirs: Json, ours: Json) -> None:
        word = theirs.get(ACTIVATION, "relu")
        if word not in WORDS:
            raise UsageError(f"config.json: {ACTIVATION} = {word!r} is not supported (known: {', '.join(WORDS)})")
        StacksRow(ACTIVATION).read(theirs, ours)
        for stack, side in ((ours["encoder"], "encoder"), (ours, "decoder")):
            dense = stack["layers"]["block"]
            words = sparse_layers(sparse_step(theirs, side, stack["depth"]), stack["depth"])
            templates = {"dense": dense, "sparse": dense | {"ffn": self._mixture(theirs, dense["ffn"])}}
            stack["pattern"] = shortest(words)
            stack["layers"] = {word: templates[word] for word in dict.fromkeys(words)}

    def _mixture(self, theirs: Json, expert: Json) -> Json:
        router = {ours: theirs.get(key, default) for ours, (key, default) in ROUTER.items()}
        return {
            "kind": "moe",
            "experts": theirs.get("num_experts", 8),
            "router": {"kind": "switch", **router},
            "expert": expert,
        }

    def write(self, ours: Json, theirs: Json) -> None:
        for stack, side in ((ours["encoder"], "encoder"), (ours, "decoder")):
            words = [stack["pattern"][layer % len(stack["pattern"])] for layer in range(stack["depth"])]
            theirs[f"{side}_sparse_step"] = step_of(words)
            mixture = stack["layers"].get("sparse", {}).get("ffn")
            if mixture is not None:
                theirs["num_experts"] = mixture["experts"]
                theirs |= {key: mixture["router"][word] for word, (key, _) in ROUTER.items()}
        block = next(iter(ours["layers"].values()))
        ffn = block["ffn"]
        plain = block | {"ffn": ffn["expert"] if ffn["kind"] == "moe" else ffn}
        StacksRow(ACTIVATION).write(ours | {"layers": {"block": plain}}, theirs)


@dataclass(frozen=True)
class ScaleRow:
    """The 1 / sqrt(d) that scales the logits of tied embeddings."""

    def read(self, theirs: Json, ours: Json) -> None:
        ours |= {"embeddings": "tied", "head": {"scale": ours["dim"] ** -0.5}}

    def write(self, ours: Json, theirs: Json) -> None:
        """There is no key for it."""


def sparse_step(theirs: Json, side: str, depth: int) -> int:
    """Return every how many layers a mixture comes: written down, or worked out of how many there should be."""
    step: int | None = theirs.get(f"{side}_sparse_step")
    if step is None:
        number = theirs.get(f"num_sparse_{side}_layers", 3)
        step = depth // number if isinstance(number, int) and number > 0 else depth
    if not isinstance(step, int) or step < 0:
        raise UsageError(f"config.json: {side}_sparse_step must be a whole number, not {step!r}")
    return step


def sparse_layers(step: int, depth: int) -> list[str]:
    """Return the word of each layer: a mixture in the second of each `step`, in all if step is 1, in none if 0."""
    return ["sparse" if step == 1 or (step > 1 and layer % step == 1) else "dense" for layer in range(depth)]


def step_of(words: Sequence[str]) -> int:
    """Return the step that gives these words: one that follows from a number of sparse layers, if any does."""
    depth = len(words)
    steps: list[int] = [*(depth // number for number in range(1, depth + 1)), 0, *range(2, depth)]
    found = [step for step in steps if sparse_layers(step, depth) == list(words)]
    if not found:
        raise KeyError("no step gives these layers")
    return found[0]


def stack_rules(theirs: str, ours: str, ffn_at: int) -> tuple[Rule, ...]:
    """Return the rules of one stack, whose feed-forward network is the sub-layer `ffn_at`."""
    t, o = theirs + "block.{l}.layer.", ours + "blocks.{l}."
    mlp, bias = f"{t}{ffn_at}.mlp.", "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        *(Rule(f"{t}0.SelfAttention.{a}.weight", f"{o}mixer.{a}.weight") for a in "qkvo"),
        Rule(t + "0.layer_norm.weight", o + "mixer_norm.weight"),
        Rule(theirs + bias, ours + "blocks.0.mixer.position.weight"),
        Rule(mlp + "wi.weight", o + "ffn.up.weight"),
        Rule(mlp + "wo.weight", o + "ffn.down.weight"),
        Rule(mlp + "router.classifier.weight", o + "ffn.router.weight"),
        Rule(mlp + "experts.expert_{e}.wi.weight", o + "ffn.experts.up.weight"),
        Rule(mlp + "experts.expert_{e}.wo.weight", o + "ffn.experts.down.weight"),
        Rule(f"{t}{ffn_at}.layer_norm.weight", o + "ffn_norm.weight"),
        Rule(theirs + "final_layer_norm.weight", ours + "norm.weight"),
    )


SWITCH = FAMILIES.register("switch_transformers", paper="Fedus et al. 2021, arXiv 2101.03961")(
    Family(
        model_type="switch_transformers",
        architecture="SwitchTransformersForConditionalGeneration",
        skeleton={},
        config=(
            SparseRow(),
            ScaleRow(),
            Always("tie_word_embeddings", True),  # untied, libraries do not agree on which tables there are
            Always("is_encoder_decoder", True),
            Only("router_bias", (False,)),
            Only("router_dtype", ("float32",)),
        ),
        weights=(*shared_rules(), *stack_rules("encoder.", "encoder.", 1), *stack_rules("decoder.", "", 2)),
    )
)
