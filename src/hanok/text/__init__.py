"""Text: tokenizers, chat formats, traces, batches, corpora, checkable tasks, and the streams that training reads."""
