"""WordPiece: the longest known piece first, as BERT reads; made for encoders, since it does not keep white space."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from hanok.core.errors import UsageError
from hanok.text.tokenizer import TOKENIZERS
from hanok.text.tokenizer.specials import SPECIALS, UNK

INSIDE = "##"  # before a piece that does not begin a word


@TOKENIZERS.register("wordpiece", paper="https://arxiv.org/abs/1609.08144")
def train_wordpiece(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """WordPiece with NFC and case kept: words between spaces and punctuation, longest known piece first.

    What comes back is words and punctuation marks with single spaces between them. Runs of white space, line breaks,
    and whether a mark stood next to its word are lost, and a word with a character that training did not see is one
    unknown token. Chat formats and code need one of the byte-level kinds.
    """
    specials = [*SPECIALS, UNK]
    if vocab_size <= len(specials):
        raise UsageError(f"vocab_size must be more than {len(specials)} (the specials): {vocab_size}")
    backend = Tokenizer(models.WordPiece(unk_token=UNK, max_input_chars_per_word=100))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=INSIDE, cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # Every character doubles as a piece inside words: half of the room is the most that they may take.
        limit_alphabet=max(1, (vocab_size - len(specials)) // 2),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        continuing_subword_prefix=INSIDE,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend
