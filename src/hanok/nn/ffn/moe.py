"""A mixture of experts: each token is computed by a few of many feed-forward networks."""

from __future__ import annotations

from functools import partial
from typing import Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig, spec_type
from hanok.nn.experts import ExpertLinear
from hanok.nn.ffn import FFNS
from hanok.nn.ffn.base import Dense, DenseConfig
from hanok.nn.ffn.swiglu import SwiGLU
from hanok.nn.linear import Linear
from hanok.nn.router import ROUTERS
from hanok.nn.router.base import Router, RouterConfig
from hanok.nn.router.topk import TopK
from hanok.ops.numerics import elementwise
from hanok.ops.route import combine, dispatch, group


@FFNS.register("moe", paper="Shazeer et al. 2017, arXiv 1701.06538; Dai et al. 2024, DeepSeekMoE, arXiv 2401.06066")
class MoE(nn.Module):
    """y = sum over chosen experts e of w_e expert_e(x), plus a shared expert that every token visits.

    Tokens are sorted by expert, and each expert computes its own at once; what a token depends on besides
    itself is said by its router. Weights are stacked: experts.up.weight is (experts, hidden, dim).
    """

    class Config(PartConfig):
        """`expert` is any dense feed-forward network; `shared` the inner width of the shared one, of the same kind.

        `shared_gate` "sigmoid" multiplies the shared expert by sigmoid(x w), as Qwen2-MoE does.
        """

        kind: Literal["moe"] = "moe"
        experts: int = pydantic.Field(default=8, gt=0)
        router: spec_type(ROUTERS) = TopK.Config()  # type: ignore[valid-type]
        expert: spec_type(FFNS) = SwiGLU.Config()  # type: ignore[valid-type]
        shared: int | None = pydantic.Field(default=None, gt=0)
        shared_gate: Literal["none", "sigmoid"] = "none"

        @pydantic.model_validator(mode="after")
        def _check(self) -> Self:
            if not issubclass(FFNS[self.expert.kind], Dense):
                raise ValueError(f"moe: an expert must be a dense feed-forward network, not {self.expert.kind!r}")
            if self.shared is None and self.shared_gate != "none":
                raise ValueError("moe: shared_gate needs a shared expert (shared is its inner width)")
            assert isinstance(self.router, RouterConfig)
            self.router.check(self.experts)
            return self

        def resolve(self, dim: int) -> Self:
            return self.model_copy(update={"expert": self.expert.resolve(dim), "router": self.router.resolve(dim)})

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert isinstance(config.expert, DenseConfig)
        ffn: type[Dense] = FFNS[config.expert.kind]
        self.number = config.experts
        self.router: Router = ROUTERS[config.router.kind](config.router, dim, config.experts)
        stacked = partial(ExpertLinear, experts=config.experts, active=self.router.per_token)
        self.experts = ffn(config.expert, dim, stacked)
        self.shared = ffn(config.expert.model_copy(update={"hidden": config.shared}), dim) if config.shared else None
        self.shared_gate = Linear(dim, 1) if config.shared_gate == "sigmoid" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return what the experts make of x (B, T, dim)."""
        choice = self.router(x)
        width = choice.experts.shape[-1]
        groups = group(
            choice.experts.view(-1, width), self.number, None if choice.kept is None else choice.kept.view(-1, width)
        )
        rows = dispatch(x.flatten(0, -2), groups)
        y = combine(self.experts.of_experts(rows, groups.counts), groups, choice.weights.view(-1, width)).view(x.shape)
        if self.shared is None:
            return y
        shared: Tensor = self.shared(x)
        if self.shared_gate is not None:
            shared = elementwise(torch.sigmoid, self.shared_gate(x)) * shared
        return y + shared
