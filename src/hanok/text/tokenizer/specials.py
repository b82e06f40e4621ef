"""The special tokens of the tokenizers that we train; a chat format and a document are written with these."""

from __future__ import annotations

BOS = "<|bos|>"
EOS = "<|eos|>"
PAD = "<|pad|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIALS = (BOS, EOS, PAD, IM_START, IM_END)
UNK = "<|unk|>"  # only for kinds that cannot write every text
