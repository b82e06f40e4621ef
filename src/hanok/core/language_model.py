"""What anything that predicts tokens can do, whether it counts or multiplies matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class LanguageModel(Protocol):
    """A distribution over the next token given all before it; rooms that are strangers meet in this shape."""

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens that it can predict."""
        ...

    def logprobs(self, tokens: Tensor, /) -> Tensor:
        """Return ln p(tokens[:, t + 1] | tokens[:, : t + 1]) as (B, T-1) for int64 tokens (B, T)."""
        ...
