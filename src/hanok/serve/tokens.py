"""Tokens as the two log-probability formats show them: text where it is whole, and bytes, which are the truth."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.engine.request import Output
from hanok.serve.schema.chat import ChatLogprobs, TokenLogprob, TopLogprob
from hanok.serve.schema.common import PromptLogprob, PromptLogprobs
from hanok.serve.schema.completion import CompletionLogprobs
from hanok.text.tokenizer import Tokenizer

FLOOR = -9999.0  # what stands for minus infinity, which JSON cannot say

Alternatives = Sequence[Sequence[tuple[int, float]]] | None


class TokenText:
    """Writes tokens for one model; without a tokenizer a token is `token_id:7`."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._hidden = frozenset() if tokenizer is None else frozenset(tokenizer.specials.values())

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes."""
        if self._tokenizer is None:
            return f"token_id:{token}".encode()
        return self._tokenizer.token_bytes(token)

    def shown_bytes(self, token: int) -> bytes:
        """Return what a token adds to the text of an answer: nothing, if it is a special one."""
        if self._tokenizer is None or token in self._hidden:
            return b""
        return self._tokenizer.token_bytes(token)

    def text_of(self, token: int) -> str:
        r"""Return a token's text, or `bytes:\xed\x95` where it is half a character."""
        data = self.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def chat(self, tokens: Sequence[int], logprobs: Sequence[float], tops: Alternatives, top: int) -> ChatLogprobs:
        """Return the chat format: one entry per token with at most `top` alternatives."""
        content = []
        for place, (token, value) in enumerate(zip(tokens, logprobs, strict=True)):
            others = list(tops[place])[:top] if tops is not None else []
            content.append(
                TokenLogprob(
                    token=self.text_of(token),
                    logprob=max(value, FLOOR),
                    bytes=list(self.bytes_of(token)),
                    top_logprobs=[self._alternative(other, chance) for other, chance in others],
                )
            )
        return ChatLogprobs(content=content)

    def prompt(self, output: Output) -> PromptLogprobs:
        """Return vLLM's format of a prompt's log-probs: per token a table by id, null for the first."""
        tops = output.prompt_top_logprobs or [None] * output.prompt_tokens
        rows: PromptLogprobs = []
        for token, value, top in zip(output.prompt_ids, output.prompt_logprobs or (), tops, strict=True):
            table = {token: value} | dict(top or ()) if value is not None else None
            rows.append(None if table is None else {str(id): self._judged(id, chance) for id, chance in table.items()})
        return rows

    def _judged(self, token: int, value: float) -> PromptLogprob:
        return PromptLogprob(logprob=max(value, FLOOR), decoded_token=self.text_of(token))

    def _alternative(self, token: int, value: float) -> TopLogprob:
        return TopLogprob(token=self.text_of(token), logprob=max(value, FLOOR), bytes=list(self.bytes_of(token)))


class CompletionTokens:
    """Builds the older format piece by piece: it counts characters, so one object follows one choice."""

    def __init__(self, text: TokenText, top: int) -> None:
        self._text = text
        self._top = top
        self._seen = b""  # bytes of a character that is not whole yet
        self._offset = 0

    def piece(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float | None],
        tops: Sequence[Sequence[tuple[int, float]] | None],
    ) -> CompletionLogprobs:
        """Return the lists for the next tokens."""
        offsets = [self._advance(token) for token in tokens]
        return CompletionLogprobs(
            tokens=[self._text.text_of(token) for token in tokens],
            token_logprobs=[None if value is None else max(value, FLOOR) for value in logprobs],
            top_logprobs=[
                self._table(token, value, top) for token, value, top in zip(tokens, logprobs, tops, strict=True)
            ]
            if self._top
            else None,
            text_offset=offsets,
        )

    def _table(
        self, token: int, value: float | None, top: Sequence[tuple[int, float]] | None
    ) -> dict[str, float] | None:
        """Return the best `top` alternatives and the chosen token itself."""
        if value is None:
            return None
        table = {self._text.text_of(other): max(chance, FLOOR) for other, chance in list(top or ())[: self._top]}
        table.setdefault(self._text.text_of(token), max(value, FLOOR))
        return table

    def _advance(self, token: int) -> int:
        """Return the character at which a token starts, and move behind it."""
        start = self._offset
        self._seen += self._text.shown_bytes(token)
        try:
            self._offset += len(self._seen.decode())
            self._seen = b""
        except UnicodeDecodeError as error:
            self._offset += len(self._seen[: error.start].decode())
            self._seen = self._seen[error.start :]
            if len(self._seen) > 3:  # longer than any unfinished character: it never becomes one
                self._offset += 1
                self._seen = b""
        return start
