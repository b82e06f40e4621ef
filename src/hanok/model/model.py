"""The one model class: training, scoring and serving call this same forward."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.model.block import Block
from hanok.model.config import ModelConfig, StackConfig
from hanok.model.init import initialise
from hanok.model.mtp import MTP, shifted
from hanok.model.shared import Shared
from hanok.nn.context import Context, Dense, Memory, Source
from hanok.nn.embed import Embed
from hanok.nn.head import Transform
from hanok.nn.linear import Linear
from hanok.nn.norm import NORMS
from hanok.ops.linear_cross_entropy import Projection
from hanok.ops.numerics import elementwise


class Model(nn.Module):
    """A stack of blocks between an embedding and a head; what differs between architectures is in the config.

    `model(tokens)` takes whole sequences, tokens (B,T) int64 -> logits (B,T,V); with an encoder, `source` (B,S) are the
    tokens that it reads. A program that holds memories passes its own context.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.config = config
        self.origin: dict[str, Any] = {}  # the config.json that it was read from: keys that we do not use are kept
        with torch.device(device):
            self.embed = Embed(config.embed, config.vocab, config.dim)
            try:
                self.blocks = stack(config, config.dim)
                self.shared = shared(config)
                self.encoder = Encoder(config.encoder, config.dim) if config.encoder else None
                self.mtp = MTP(config) if config.mtp else None
            except ValueError as error:
                raise UsageError(f"this model cannot be built: {error}") from None
            self.norm = NORMS[config.norm.kind](config.norm, config.dim) if config.norm else None
            head = config.head
            self.transform = Transform(head.transform, config.dim) if head and head.transform else None
            width = self.transform.width if self.transform else config.dim
            self.head = Linear(width, config.vocab, bias=head.bias == "all") if head else None
            self.pooler = Linear(config.dim, config.dim, bias=True) if config.pooler == "tanh" else None
        self.tie()
        if torch.device(device).type != "meta":
            initialise(self, seed)

    def tie(self) -> None:
        """Let the head use the embedding's matrix, if the config says so."""
        if self.config.embeddings == "tied":
            assert self.head is not None
            if self.head.kind != "dense":  # packed: it has numbers of its own
                return
            if self.head.weight.shape != self.embed.weight.shape:
                raise UsageError("tied embeddings need a head as wide as the table: see embed.width, head.transform")
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor, ctx: Context | None = None, *, source: Tensor | None = None) -> Tensor:
        return self.logits(self.hidden(tokens, ctx, source=source))

    def hidden(self, tokens: Tensor, ctx: Context | None = None, *, source: Tensor | None = None) -> Tensor:
        """Return the normalised last hidden states (B,T,dim), of which `logits` makes logits."""
        if ctx is None:
            ctx = Dense(tokens, source=None if source is None else self.encode(source))
        x = embedded = self.embed(tokens, ctx.positions)
        for layer in range(len(self.blocks)):
            x = self.layer(layer, x, embedded, ctx)
        out: Tensor = x if self.norm is None else self.norm(x)
        return out

    def layer(self, layer: int, x: Tensor, embedded: Tensor, ctx: Context, active: Tensor | None = None) -> Tensor:
        """Return x (B,T,dim) after a layer, and after what is beside it, which reads the embeddings (B,T,dim) too."""
        block, beside = cast(Block, self.blocks[layer]), None
        if block.beside is not None and self.shared is not None:
            beside = self.shared[block.beside](x, embedded, ctx, layer)
        out: Tensor = block(x, ctx, active, beside)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of last hidden states (..., dim)."""
        if self.head is None or self.config.head is None:
            raise UsageError("this model has no head: it gives hidden states, not logits")
        x = hidden if self.transform is None else self.transform(hidden)
        logits: Tensor = self.head(x)
        if self.config.head.scale != 1.0:
            logits = logits * self.config.head.scale
        cap = self.config.head.softcap
        return logits if cap is None else cap * elementwise(torch.tanh, logits / cap)

    def before_head(self, hidden: Tensor) -> tuple[Tensor, Projection] | None:
        """Return what the head multiplies, and how `logits` goes on from there; None if it is no plain matrix."""
        head, config = self.head, self.config.head
        if head is None or config is None or type(head) is not Linear or type(head.weight) is not nn.Parameter:
            return None
        if "product" in vars(head):
            return None
        x = hidden if self.transform is None else self.transform(hidden)
        return x, Projection(head.weight, head.bias, config.scale, config.softcap)

    def ahead(self, hidden: Tensor, following: Tensor, ctx: Context, *, depth: int = 1) -> Tensor:
        """Return states (B,T,dim) that predict one token further than `hidden`, given the tokens in between.

        depth 1 takes the states of `hidden()` and the tokens that follow each place, t_{i+1}; depth k the states of
        depth k - 1 and t_{i+k}. `logits` makes logits of t_{i+k+1} of them. The context is the one `hidden()` had.
        """
        if self.mtp is None:
            raise UsageError("this model predicts the next token alone: it was built without mtp")
        out: Tensor = self.mtp(hidden, self.embed(following, ctx.positions), ctx, depth)
        return out

    def mtp_logits(self, hidden: Tensor, tokens: Tensor, ctx: Context | None = None) -> list[Tensor]:
        """Return for each depth k the logits (B,T-k,V) of tokens i + k + 1, given tokens (B,T) up to i + k."""
        ctx, found = ctx or Dense(tokens), []
        for k in range(1, len(self.mtp or ()) + 1):
            hidden = self.ahead(hidden, shifted(tokens, k), ctx, depth=k)
            found.append(self.logits(hidden[:, : tokens.shape[1] - k]))
        return found

    def pool(self, hidden: Tensor) -> Tensor:
        """Return tanh(W h_0 + b) (B,dim) of last hidden states (B,T,dim): BERT's view of the first token."""
        if self.pooler is None:
            raise UsageError("this model has no pooler: take the mean of its hidden states, or the first")
        return elementwise(torch.tanh, self.pooler(hidden[:, 0]))

    def encode(self, source: Tensor, seen: Tensor | None = None) -> Source:
        """Run the encoder over source tokens (B,S), of which `seen` (B,S) bool tells tokens from padding."""
        if self.encoder is None:
            raise UsageError("this model has no encoder: it reads no source")
        ctx = Dense(source, segments=None if seen is None else (~seen).long())
        states = self.encoder(self.embed(source, ctx.positions), ctx)
        return Source(states, torch.ones_like(source, dtype=torch.bool) if seen is None else seen)

    def memory(self) -> list[Memory]:
        """Return what each layer keeps of the past, and behind them what each use of a shared part keeps."""
        layers = [cast(Block, block).memory() for block in self.blocks]
        return layers + [cast(Memory, mixer.memory()) for mixer in self.mixers()[len(layers) :]]

    def mixers(self) -> list[Any]:
        """Return the mixers whose memories `memory` lists, in that order; a shared one once for each use."""
        own = [cast(Block, block).mixer for block in self.blocks]
        return own + [self.shared[name].mixer for name in self.config.uses.values() if self.shared is not None]

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype that activations have."""
        return self.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.embed.weight.device


class Encoder(nn.Module):
    """A second stack, which reads the source."""

    def __init__(self, config: StackConfig, dim: int) -> None:
        super().__init__()
        self.blocks = stack(config, dim)
        self.norm = NORMS[config.norm.kind](config.norm, dim) if config.norm else None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        for block in self.blocks:
            x = block(x, ctx)
        return x if self.norm is None else self.norm(x)


def shared(config: ModelConfig) -> nn.ModuleDict | None:
    """Return the parts that layers share; the memories of their uses stand behind those of the layers."""
    places = {layer: config.depth + at for at, layer in enumerate(config.uses)}
    parts = {
        name: Shared(part, config.dim, {layer: places[layer] for layer, used in config.uses.items() if used == name})
        for name, part in config.shared.items()
    }
    return nn.ModuleDict(parts) if parts else None


def stack(config: StackConfig, dim: int) -> nn.ModuleList:
    """Return the blocks of a stack; position schemes that a stack shares are built by its first layer."""
    blocks = [Block(config.block(layer), dim, layer) for layer in range(config.depth)]
    shared: dict[str, nn.Module] = {}
    for block in blocks:
        position = getattr(block.mixer, "position", None)
        if isinstance(position, nn.Module) and getattr(position, "shared", False):
            shapes = [tuple(parameter.shape) for parameter in position.parameters()]
            key = f"{block.mixer.config.position.digest()} {shapes}"
            block.mixer.position = shared.setdefault(key, position)
    return nn.ModuleList(blocks)
