"""RWKV-4, saved as `RwkvForCausalLM`: each of their layers is two of ours, time mixing and channel mixing."""

from __future__ import annotations

from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.rows import flag
from hanok.model.families.rule import TIED, Reshape, Rule
from hanok.model.families.table import REQUIRED, Family, Json, Key, get, put

SKELETON: Json = {"embed": {"norm": {"kind": "layernorm"}}, "norm": {"kind": "layernorm"}}
LAST_EPS = 1e-5  # their last norm does not read the config
MOST = 500  # layers: behind more halvings the scale 4^k would be no number


class Layers:
    """Depth, widths and norms of the layers, with `rescale_every`.

    For the sake of float16, their inference halves the residual stream after every so many layers, and what is written
    to it. Norms see through the halving but for their eps: norm(x / 2^k) with eps is norm(x) with 4^k eps. So we leave
    the stream alone and give the layers behind k halvings, and the last norm, that eps: the same numbers.
    """

    def read(self, theirs: Json, ours: Json) -> None:
        depth, every = _whole(theirs, "num_hidden_layers", REQUIRED), _whole(theirs, "rescale_every", 6)
        eps = theirs.get("layer_norm_epsilon", LAST_EPS)
        if not 0 < depth <= MOST or isinstance(eps, bool) or not isinstance(eps, int | float):
            raise UsageError(f"config.json: {depth} layers (of 1 to {MOST}) with layer_norm_epsilon = {eps!r}")
        halved = [layer // every if every > 0 else 0 for layer in range(depth + 1)]
        layers: Json = {}
        for k in sorted(set(halved[:depth])):
            norm = {"kind": "layernorm", "eps": eps * 4.0**k}
            time = {"kind": "rwkv_time", "width": theirs.get("attention_hidden_size")}
            channel = {"kind": "rwkv_channel", "hidden": theirs.get("intermediate_size")}
            layers |= {_name("time", k): {"mixer": time, "norm": norm}}
            layers |= {_name("channel", k): {"mixer": channel, "norm": norm}}
        put(ours, "layers", layers)
        put(ours, "depth", 2 * depth)
        pattern = [_name(kind, k) for k in halved[:depth] for kind in ("time", "channel")]
        put(ours, "pattern", pattern if halved[depth - 1] else pattern[:2])
        put(ours, "embed.norm.eps", eps)
        put(ours, "norm.eps", LAST_EPS * 4.0 ** halved[depth])

    def write(self, ours: Json, theirs: Json) -> None:
        depth = ours["depth"] // 2
        theirs["num_hidden_layers"] = depth
        theirs["attention_hidden_size"] = get(ours, "layers.time.mixer.width")
        theirs["intermediate_size"] = get(ours, "layers.channel.mixer.hidden")
        theirs["layer_norm_epsilon"] = get(ours, "layers.time.norm.eps")
        whole = list(ours["pattern"]) * (1 if len(ours["pattern"]) > 2 else depth)
        plain = whole.count("time")
        if plain < depth or get(ours, "norm.eps") > LAST_EPS:
            theirs["rescale_every"] = plain
        elif depth >= 6:
            theirs["rescale_every"] = 0  # with fewer layers their default halves nothing


def _whole(theirs: Json, key: str, default: Any) -> int:
    value = theirs.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"config.json needs a whole number {key!r}")
    return value


def _name(kind: str, halvings: int) -> str:
    return f"{kind}_{halvings}" if halvings else kind


THEIRS, TIME, CHANNEL = "rwkv.blocks.{l}.", "blocks.{l*2}.", "blocks.{l*2+1}."
ROW = Reshape(1, 1, -1)

RWKV = FAMILIES.register("rwkv", paper="Peng et al. 2023, arXiv 2305.13048")(
    Family(
        model_type="rwkv",
        architecture="RwkvForCausalLM",
        skeleton=SKELETON,
        config=(
            Key("vocab_size", ("vocab",), 50277),
            Key("hidden_size", ("dim",), 4096),
            Key("context_length", ("context",), 1024),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            Layers(),
        ),
        weights=(
            Rule("rwkv.embeddings.weight", "embed.weight"),
            *(Rule(f"rwkv.blocks.0.pre_ln.{p}", f"embed.norm.{p}") for p in ("weight", "bias")),
            *(Rule(f"{THEIRS}ln1.{p}", f"{TIME}mixer_norm.{p}") for p in ("weight", "bias")),
            *(Rule(f"{THEIRS}ln2.{p}", f"{CHANNEL}mixer_norm.{p}") for p in ("weight", "bias")),
            Rule(THEIRS + "attention.time_decay", TIME + "mixer.decay"),
            Rule(THEIRS + "attention.time_first", TIME + "mixer.bonus"),
            *(
                Rule(f"{THEIRS}attention.time_mix_{a}", f"{TIME}mixer.mix_{a}", ROW)
                for a in ("key", "value", "receptance")
            ),
            *(
                Rule(f"{THEIRS}attention.{a}.weight", f"{TIME}mixer.{b}.weight")
                for a, b in (("key", "key"), ("value", "value"), ("receptance", "receptance"), ("output", "o"))
            ),
            *(
                Rule(f"{THEIRS}feed_forward.time_mix_{a}", f"{CHANNEL}mixer.mix_{a}", ROW)
                for a in ("key", "receptance")
            ),
            *(
                Rule(f"{THEIRS}feed_forward.{a}.weight", f"{CHANNEL}mixer.{b}.weight")
                for a, b in (("key", "key"), ("receptance", "receptance"), ("value", "down"))
            ),
            *(Rule(f"rwkv.ln_out.{p}", f"norm.{p}") for p in ("weight", "bias")),
            Rule("head.weight", "head.weight", TIED),
        ),
        base="rwkv.",
    )
)
