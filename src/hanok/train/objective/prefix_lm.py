"""Prefix language modelling: the beginning of a text is read in both directions, the rest is written."""

from __future__ import annotations

from typing import Literal

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.context import PerToken
from hanok.text.data.changed import Change
from hanok.text.data.prefix import Prefix
from hanok.text.tokenizer import Tokenizer
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import CrossEntropy, TokenConfig


@OBJECTIVES.register("prefix_lm", paper="Raffel et al. 2019, arXiv 1910.10683, section 3.2.3")
class PrefixLM(CrossEntropy):
    """Prefix language modelling: next-token prediction behind a prefix whose tokens see one another both ways.

    Each document's prefix has a length that is drawn evenly; targets within it do not count. The column `prefix` (B,T)
    is not zero for its tokens. Programs that read a prompt from the left, such as our engine, show the model what it
    knows only from short prefixes.
    """

    class Config(TokenConfig):
        """Label smoothing, z-loss, and how logits are held."""

        kind: Literal["prefix_lm"] = "prefix_lm"

    needs: tuple[str, ...] = ("prefix",)

    def reads(self, tokenizer: Tokenizer) -> tuple[Tokenizer, Change | None]:
        """Return the tokenizer, and what draws the prefixes."""
        return tokenizer, Prefix()

    def fits(self, model: Model) -> None:
        """Refuse what cannot look ahead (a recurrence), and what does so anyway."""
        super().fits(model)
        if not all(isinstance(memory, PerToken) for memory in model.memory()):
            raise UsageError("the objective 'prefix_lm' needs attention in every layer: a recurrence reads one way")
