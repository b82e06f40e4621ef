"""Unigram over bytes: a word is cut where the product of its pieces' probabilities is greatest."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from hanok.text.tokenizer import TOKENIZERS
from hanok.text.tokenizer.bbpe import over_bytes
from hanok.text.tokenizer.specials import SPECIALS

LONGEST = 24  # bytes of a piece: eight Hangul syllables


@TOKENIZERS.register("unigram", paper="https://arxiv.org/abs/1804.10959")
def train_unigram(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Unigram over bytes: pieces with probabilities, pruned from many until `vocab_size` are left.

    Words and bytes are those of `bbpe`, so that the two differ in how pieces are chosen and in nothing else: every text
    comes back, and none holds an unknown token. The library's trainer walks hash tables, so that two trainings on the
    same text can differ in a few pieces: keep the file, not the recipe.
    """
    backend = over_bytes(models.Unigram(), vocab_size)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_piece_length=LONGEST,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend
