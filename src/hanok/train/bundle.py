"""A model directory as training sees it: weights to change, and a tokenizer and chat format that stay with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hanok.core.device import pick
from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.model.weights import TokenIds, is_model_dir, load_model, read_token_ids, save_model
from hanok.text.chat import CHATS, ChatSpec, load_chat
from hanok.text.tokenizer import Tokenizer
from hanok.train.checkpoint.ranks import place

NO_IDS = TokenIds()


@dataclass(frozen=True)
class Bundle:
    """A model, its tokenizer and its chat format (None for a base model)."""

    model: Model
    tokenizer: Tokenizer
    chat: ChatSpec | None = None
    ids: TokenIds = NO_IDS

    @classmethod
    def load(cls, path: Path, *, device: str = "auto") -> Bundle:
        """Read a Hugging Face directory; the weights become float32."""
        if not is_model_dir(path):
            raise UsageError(f"{path} is not a model directory: it holds no config.json")
        tokenizer = Tokenizer.load(path)
        model = load_model(path, torch.float32).to(pick(device))
        return cls(model, tokenizer, load_chat(path, tokenizer), read_token_ids(path))

    def with_chat(self, word: str) -> Bundle:
        """Return the bundle with a chat format: the model's own, or the named one if it has none."""
        return self if self.chat is not None else Bundle(self.model, self.tokenizer, CHATS[word](), self.ids)

    def speaking(self) -> ChatSpec:
        """Return the chat format, which learning from conversations needs."""
        if self.chat is None:
            raise UsageError(
                "this model has no chat format (no chat_template.jinja): fine-tune it on conversations first"
            )
        return self.chat

    @property
    def pad_id(self) -> int:
        """Return the id that fills rows up; its weight is 0, so that any id will do."""
        return self.tokenizer.pad_id or 0

    def save(self, path: Path) -> None:
        """Write the Hugging Face layout: weights, configs, tokenizer, chat template (once, where many train)."""
        if place()[0] > 0:
            return
        path.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(path)
        stops: list[int] = []
        if self.chat is not None:
            self.chat.save(path)
            stops = self.chat.stops(self.tokenizer)
        eos = {*self.ids.eos, *stops, *([] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id])}
        bos = self.tokenizer.bos_id if self.ids.bos is None else self.ids.bos
        pad = self.tokenizer.pad_id if self.ids.pad is None else self.ids.pad
        save_model(self.model, path, TokenIds(bos, tuple(sorted(eos)), pad, self.ids.start))
