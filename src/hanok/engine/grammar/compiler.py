"""From a grammar's text to a matcher: the tokenizer's side of it is built once, compiled grammars are remembered."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from hanok.core.errors import UsageError, require
from hanok.engine.grammar import GRAMMARS, Grammar
from hanok.engine.grammar.matcher import Matcher
from hanok.text.tokenizer import Tokenizer

KEPT, KEPT_BYTES = 128, 16 << 20  # compiled grammars that are remembered, and bytes of their texts
LIMITS = {
    "initial_lexer_fuel": 1_000_000,  # about 20 ms
    "step_lexer_fuel": 100_000,  # about 7 ms
    "step_max_items": 20_000,  # about 1 ms
    "max_lexer_states": 20_000,  # about 40 MB
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}


class Compiler:
    """Compiles grammars for one tokenizer, in whichever thread asks; safe from several."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.piecewise:
            raise UsageError("this tokenizer's text is known only at its end, so no grammar can lead it")
        self._library = require("llguidance", extra="structured")
        self._vocab = tokenizer.vocab_size
        words = self._library.TokenizerWrapper(_Words(tokenizer))
        self._words = self._library.LLTokenizer(words, n_vocab=self._vocab + 1, eos_token=self._vocab)
        self._limits = self._library.LLParserLimits(**LIMITS)
        self._kept: OrderedDict[Grammar, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def matcher(self, grammar: Grammar) -> Matcher:
        """Return a fresh matcher, or say why the grammar cannot be compiled."""
        with self._lock:
            model = self._kept.get(grammar)
            if model is not None:
                self._kept.move_to_end(grammar)
        if model is None:
            model = self._compile(grammar)
            self._keep(grammar, model)
        with self._lock:
            return Matcher(model.deep_copy(), self._vocab, self._words)

    def _compile(self, grammar: Grammar) -> Any:
        try:
            rules = GRAMMARS[grammar.kind].rules(grammar.text)
        except ValueError as error:
            raise UsageError(f"{grammar.kind}: {str(error)[:300]}") from None
        model = self._library.LLMatcher(self._words, rules, log_level=0, limits=self._limits)
        if not model.is_error():
            model.deep_copy().compute_bitmask()  # the first step builds most of what is built later
        if model.is_error():
            raise UsageError(f"{grammar.kind} cannot be used: {_plain(model.get_error())}")
        return model

    def _keep(self, grammar: Grammar, model: Any) -> None:
        with self._lock:
            if grammar not in self._kept:
                self._kept[grammar] = model
                self._bytes += len(grammar.text)
            while len(self._kept) > 1 and (len(self._kept) > KEPT or self._bytes > KEPT_BYTES):
                oldest, _ = self._kept.popitem(last=False)
                self._bytes -= len(oldest.text)


class _Words:
    """The vocabulary as the library reads it, with one more token behind it that stands for the end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        size = tokenizer.vocab_size
        self._encode = tokenizer.encode
        self.bos_token_id = None
        self.eos_token_id = size
        self.tokens = [tokenizer.token_bytes(id) for id in range(size)] + [b"<|the end of this text|>"]
        self.special_token_ids = [*tokenizer.specials.values(), size]

    def __call__(self, text: bytes | str) -> Sequence[int]:
        return self._encode(text if isinstance(text, str) else text.decode(errors="replace"))


_compilers: weakref.WeakKeyDictionary[Tokenizer, Compiler] = weakref.WeakKeyDictionary()
_building = threading.Lock()


def compiler_for(tokenizer: Tokenizer) -> Compiler:
    """Return the tokenizer's compiler, which lives as long as it does; building one reads the whole vocabulary."""
    with _building:
        if tokenizer not in _compilers:
            _compilers[tokenizer] = Compiler(tokenizer)
        return _compilers[tokenizer]


def _plain(error: str) -> str:
    return " ".join(error.replace("<non-verbose/>", "").split())[:300] or "the library gives no reason"
