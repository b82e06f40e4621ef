"""Byte-level BPE: merges over the 256 bytes, so that every Unicode string has a code and no token is unknown."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from hanok.core.errors import UsageError
from hanok.text.tokenizer import TOKENIZERS
from hanok.text.tokenizer.specials import SPECIALS

# A line break is always a token of its own: a chat turn begins after one, so that its tokens cannot depend on what
# stands before it. Each digit is alone, so that a number has one spelling. Marks stay with their letters.
WORDS = r"'(?:[sdmt]|ll|ve|re)|\n|\p{N}| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}\p{N}]+|[^\S\n]+(?!\S)|[^\S\n]+"


@TOKENIZERS.register("bbpe", paper="https://arxiv.org/abs/1909.03341")
def train_bbpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with single digits and NFC: covers all of Unicode with 256 bytes and learned merges."""
    backend = over_bytes(models.BPE(), vocab_size)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def over_bytes(model: models.Model, vocab_size: int) -> Tokenizer:
    """Return an untrained tokenizer that composes (NFC), cuts into WORDS, and hands their bytes to a model."""
    smallest = len(pre_tokenizers.ByteLevel.alphabet()) + len(SPECIALS)
    if vocab_size < smallest:
        raise UsageError(
            f"vocab_size must be at least {smallest} (256 bytes and {len(SPECIALS)} specials): {vocab_size}"
        )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend
