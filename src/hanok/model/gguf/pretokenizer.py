"""llama.cpp's names for the rules that cut text into words before the merges, as `tokenizers` spells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNNAMED = "hanok"  # a rule that has no name there: llama.cpp refuses it, where a wrong name would change the tokens


@dataclass(frozen=True)
class Rule:
    """A regular expression (None is GPT-2's), Unicode normalisation, and whether a whole word that is a token wins."""

    pattern: str | None
    nfc: bool = False
    whole_words: bool = False

    def parts(self) -> dict[str, Any]:
        """Return the normaliser, pre-tokenizer and post-processor of a `tokenizers` JSON."""
        last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": self.pattern is None}
        if self.pattern is None:
            before: dict[str, Any] = last
        else:
            split = {"type": "Split", "pattern": {"Regex": self.pattern}, "behavior": "Isolated", "invert": False}
            before = {"type": "Sequence", "pretokenizers": [split, last]}
        return {
            "truncation": None,
            "padding": None,
            "normalizer": {"type": "NFC"} if self.nfc else None,
            "pre_tokenizer": before,
            "post_processor": None,
        }


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RULES = {
    "gpt-2": Rule(None),
    "qwen2": Rule(_WORDS % "", nfc=True),
    "llama-bpe": Rule(_WORDS % "{1,3}", whole_words=True),
}


def name_of(tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of a `tokenizers` JSON's rule, or a name that it does not know."""
    for name, rule in RULES.items():
        if _split(rule.parts()) == _split(tokenizer):
            return name
    return UNNAMED


def _split(tokenizer: Mapping[str, Any]) -> list[Any]:
    """Return what decides where words end: patterns, and whether ByteLevel splits and puts a space in front."""
    before = tokenizer.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    found: list[Any] = []
    for step in steps:
        if step.get("type") == "ByteLevel":
            found.append((step.get("add_prefix_space", True), step.get("use_regex", True)))
        else:
            found.append((step.get("type"), step.get("pattern"), step.get("behavior"), step.get("invert")))
    normalizer = tokenizer.get("normalizer")
    return [normalizer.get("type") if normalizer else None, *found]
