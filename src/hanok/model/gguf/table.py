"""What LLaMA and Qwen2 are called in GGUF: two tables, for the config and for the weights, read in both directions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

MIXER, FFN, NORM = "layers.block.mixer", "layers.block.ffn", "layers.block.norm"


@dataclass(frozen=True)
class Architecture:
    """A word of `general.architecture`: the order of the rotated pairs of a head, and what it has words for.

    `interleaved` pairs are (2i, 2i + 1), as in LLaMA's first release; `halves` are (i, i + d), as in ours.
    """

    name: str
    pairs: Literal["interleaved", "halves"]
    biases: tuple[str, ...]
    scalings: tuple[str, ...]


# In the order in which a model that is to be written is offered to them.
ARCHITECTURES = {
    "qwen2": Architecture("qwen2", "halves", ("qkv",), ("linear",)),
    "llama": Architecture("llama", "interleaved", ("none", "qkv", "all"), ("linear", "llama3")),
}

# Their key below the architecture's prefix, our paths, and whether it is whole or real.
KEYS: tuple[tuple[str, tuple[str, ...], Literal["whole", "real"]], ...] = (
    ("embedding_length", ("dim",), "whole"),
    ("block_count", ("depth",), "whole"),
    ("context_length", ("context",), "whole"),
    ("feed_forward_length", (FFN + ".hidden",), "whole"),
    ("attention.head_count", (MIXER + ".heads",), "whole"),
    ("attention.head_count_kv", (MIXER + ".kv_heads",), "whole"),
    ("attention.key_length", (MIXER + ".head_dim",), "whole"),
    ("attention.layer_norm_rms_epsilon", (NORM + ".eps", "norm.eps"), "real"),
    ("rope.freq_base", (MIXER + ".position.theta",), "real"),
)

# Keys that change what is computed in a way that the models read here have no part for, with their idle values.
FOREIGN: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.scale": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "use_parallel_residual": (False,),
    "embedding_scale": (1.0,),
    "residual_scale": (1.0,),
    "logit_scale": (0.0, 1.0),
}

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
WEIGHTS = (
    (EMBEDDING, "embed.weight"),
    ("output_norm.weight", "norm.weight"),
    (HEAD, "head.weight"),
    ("blk.{l}.attn_norm.weight", "blocks.{l}.mixer_norm.weight"),
    ("blk.{l}.ffn_norm.weight", "blocks.{l}.ffn_norm.weight"),
    *(
        (f"blk.{{l}}.attn_{theirs}.{part}", f"blocks.{{l}}.mixer.{ours}.{part}")
        for theirs, ours in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o"))
        for part in ("weight", "bias")
    ),
    *(
        (f"blk.{{l}}.ffn_{name}.{part}", f"blocks.{{l}}.ffn.{name}.{part}")
        for name in ("gate", "up", "down")
        for part in ("weight", "bias")
    ),
)
_OURS = dict(WEIGHTS)
_THEIRS = {ours: theirs for theirs, ours in WEIGHTS}


def our_name(theirs: str) -> str | None:
    """Return our name of their tensor, or None where it has none."""
    return _translate(theirs, r"blk\.(0|[1-9][0-9]{0,5})\.", _OURS)


def their_name(ours: str) -> str | None:
    """Return their name of our tensor, or None where it has none."""
    return _translate(ours, r"blocks\.([0-9]+)\.", _THEIRS)


def _translate(name: str, layer: str, table: dict[str, str]) -> str | None:
    if not (found := re.match(layer, name)):
        return None if "{" in name else table.get(name)
    prefix = found[0].replace(found[1], "{l}")
    other = table.get(prefix + name[found.end() :])
    return None if other is None else other.replace("{l}", found[1])


def reorder(tensor: Tensor, *, name: str, heads: tuple[int, int], to: Literal["halves", "interleaved"]) -> Tensor:
    """Put the rows of a query or key projection, weight or bias, into another order of rotated pairs.

    `name` is ours, `heads` are the numbers of query and of key heads; other tensors are left alone.
    """
    found = re.fullmatch(r"blocks\.[0-9]+\.mixer\.([qk])\.(weight|bias)", name)
    if not found:
        return tensor
    count = heads["qk".index(found[1])]
    half = tensor.shape[0] // count // 2
    split = (count, half, 2) if to == "halves" else (count, 2, half)
    return tensor.reshape(*split, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
