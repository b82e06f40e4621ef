"""Small models of each kind that differ from one another in little else: a million parameters, minutes on a CPU."""

from __future__ import annotations

from hanok.model.config import BlockConfig, ModelConfig
from hanok.model.preset import PRESETS
from hanok.nn.embed import EmbedConfig
from hanok.nn.ffn.mlp import MLP
from hanok.nn.ffn.moe import MoE
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.mixer.gqa import GQA
from hanok.nn.mixer.mamba import Mamba
from hanok.nn.mixer.mla import MLA
from hanok.nn.mixer.window_mlp import WindowMLP
from hanok.nn.norm.layernorm import LayerNorm
from hanok.nn.norm.rmsnorm import RMSNorm
from hanok.nn.position.learned import LearnedPosition
from hanok.nn.position.none import NoPosition
from hanok.nn.position.rope import RoPE
from hanok.nn.router.topk import TopK


@PRESETS.register("nplm-tiny", paper="Bengio et al. 2003, JMLR 3")
def nplm_tiny(
    *,
    vocab: int = 1024,
    dim: int = 128,
    depth: int = 1,
    tokens: int = 8,
    hidden: int | None = None,
    context: int = 512,
) -> ModelConfig:
    """A neural probabilistic language model: the vectors of the last `tokens` tokens through one hidden layer.

    The first had one layer of these; more of them reach back further (`depth` * (tokens - 1) tokens).
    """
    block = BlockConfig(mixer=WindowMLP.Config(tokens=tokens, hidden=hidden))
    return ModelConfig(vocab=vocab, dim=dim, depth=depth, layers={"block": block}, context=context, embeddings="tied")


@PRESETS.register("gpt-tiny", paper="Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)")
def gpt_tiny(
    *, vocab: int = 1024, dim: int = 128, depth: int = 4, heads: int = 4, hidden: int | None = None, context: int = 512
) -> ModelConfig:
    """A GPT-2 of about a million parameters: learned positions, layer norms before the branches, GELU, biases, tied."""
    block = BlockConfig(
        mixer=GQA.Config(heads=heads, position=NoPosition.Config(), bias="all"),
        ffn=MLP.Config(activation="gelu_tanh", bias="all", hidden=hidden),
        norm=LayerNorm.Config(),
    )
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"block": block},
        norm=LayerNorm.Config(),
        context=context,
        embeddings="tied",
        embed=EmbedConfig(position=LearnedPosition.Config(length=context)),
    )


@PRESETS.register("moe-tiny", paper="Jiang et al. 2024 (Mixtral), arXiv 2401.04088")
def moe_tiny(
    *,
    vocab: int = 1024,
    dim: int = 128,
    depth: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    experts: int = 8,
    per_token: int = 2,
    hidden: int | None = None,
    context: int = 512,
) -> ModelConfig:
    """A sparse LLaMA: `experts` SwiGLU networks a layer, of which a token visits `per_token`, kept busy by a loss.

    Unless `hidden` is given, what a token visits is as wide as llama-tiny's one network.
    """
    dense = SwiGLU.Config().resolve(dim).hidden
    assert dense
    block = BlockConfig(
        mixer=GQA.Config(heads=heads, kv_heads=kv_heads, position=RoPE.Config(theta=10000.0)),
        ffn=MoE.Config(
            experts=experts,
            router=TopK.Config(per_token=per_token, balance=0.01),
            expert=SwiGLU.Config(hidden=hidden or dense // per_token),
        ),
    )
    return ModelConfig(vocab=vocab, dim=dim, depth=depth, layers={"block": block}, context=context, embeddings="tied")


@PRESETS.register("mla-tiny", paper="DeepSeek-AI 2024 (DeepSeek-V2), arXiv 2405.04434")
def mla_tiny(
    *,
    vocab: int = 1024,
    dim: int = 128,
    depth: int = 4,
    heads: int = 4,
    kv_rank: int | None = None,
    rope_dim: int | None = None,
    hidden: int | None = None,
    context: int = 512,
) -> ModelConfig:
    """A LLaMA with latent attention: one short vector per token (a quarter of `dim`) stands for all keys and values."""
    mixer = MLA.Config(
        heads=heads,
        kv_rank=kv_rank or dim // 4,
        rope_dim=rope_dim or max(8, dim // (2 * heads)),
        nope_dim=dim // heads,
        v_dim=dim // heads,
        position=RoPE.Config(theta=10000.0),
    )
    block = BlockConfig(mixer=mixer, ffn=SwiGLU.Config(hidden=hidden))
    return ModelConfig(vocab=vocab, dim=dim, depth=depth, layers={"block": block}, context=context, embeddings="tied")


@PRESETS.register("mamba-tiny", paper="Gu and Dao 2023, arXiv 2312.00752")
def mamba_tiny(
    *, vocab: int = 1024, dim: int = 128, depth: int = 7, state: int = 16, context: int = 512
) -> ModelConfig:
    """A Mamba of about a million parameters: selective state spaces only, no feed-forward network, no attention."""
    block = BlockConfig(mixer=Mamba.Config(state=state))
    return ModelConfig(vocab=vocab, dim=dim, depth=depth, layers={"block": block}, context=context, embeddings="tied")


@PRESETS.register("jamba-tiny", paper="Lieber et al. 2024 (Jamba), arXiv 2403.19887")
def jamba_tiny(
    *,
    vocab: int = 1024,
    dim: int = 128,
    depth: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    every: int = 4,
    state: int = 16,
    hidden: int | None = None,
    context: int = 512,
) -> ModelConfig:
    """A hybrid: one layer of attention without positions in every `every`, the last of them; the others are Mamba."""
    mamba = BlockConfig(mixer=Mamba.Config(state=state, norm=RMSNorm.Config()), ffn=SwiGLU.Config(hidden=hidden))
    attention = BlockConfig(
        mixer=GQA.Config(heads=heads, kv_heads=kv_heads, position=NoPosition.Config()),
        ffn=SwiGLU.Config(hidden=hidden),
    )
    return ModelConfig(
        vocab=vocab,
        dim=dim,
        depth=depth,
        layers={"mamba": mamba, "attention": attention},
        pattern=("mamba",) * (every - 1) + ("attention",),
        context=context,
        embeddings="tied",
    )
