import math

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.eval.likelihood import bits_per_byte, score_tokens, windows_of
from hanok.model.config import ModelConfig
from hanok.model.model import Model


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9, 12, 13, 31, 64])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_windows_count_every_token_but_the_first_once(length, size):
    windows = list(windows_of(0, length, size))
    counted = [position for piece in windows for position in range(piece.first, piece.end)]
    assert counted == list(range(1, length))
    for piece in windows:
        assert piece.end - piece.start <= size and piece.start < piece.first
        assert piece.start == 0 or piece.first - piece.start >= size // 2


def test_equals_the_definition(llm, texts):
    """Document by document, one forward each, plain torch."""
    short = [text[:20] for text in texts]
    bits = 0.0
    for text in short:
        ids = torch.tensor([[llm.tokenizer.bos_id, *llm.tokenizer.encode(text)]])
        with torch.no_grad():
            logits = llm.model(ids)[0, :-1].double()
        bits -= float(torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None]).sum()) / math.log(2)
    found = bits_per_byte(llm, short)
    assert found.bits == pytest.approx(bits, rel=1e-6)
    assert found.bytes == sum(len(text.encode()) for text in short)
    assert found.per_byte == pytest.approx(bits / found.bytes, rel=1e-6)
    assert found.chars == sum(map(len, short)) and found.documents == len(short)


def test_a_uniform_model_needs_log2_of_the_vocabulary(llm, texts):
    flat = LLM(Model(llm.config, seed=0), llm.tokenizer)
    with torch.no_grad():
        flat.model.head.weight.zero_()
    found = bits_per_byte(flat, texts)
    assert found.bits == pytest.approx(found.tokens * math.log2(llm.config.vocab), rel=1e-6)


def test_exact_bits_do_not_depend_on_the_batch_and_fast_ones_may(llm, texts):
    rows = [llm.tokenizer.encode_document(text) for text in texts]
    exact = [score_tokens(llm, rows, batch=batch, numerics="exact") for batch in (1, 3, 5)]
    assert exact[0] == exact[1] == exact[2]
    fast = [score_tokens(llm, rows, batch=batch, numerics="fast") for batch in (1, 3, 5)]
    assert not fast[0] == fast[1] == fast[2]  # the control: without the contract the last bits move
    for one, other in zip(exact[0], fast[0], strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_order_of_documents_does_not_matter(llm, texts):
    assert bits_per_byte(llm, texts).bits == bits_per_byte(llm, texts[::-1], batch=3).bits


def test_context_helps_or_at_least_counts(llm, texts):
    long = [texts[2]]
    whole, cut = bits_per_byte(llm, long), bits_per_byte(llm, long, window=8)
    assert whole.tokens == cut.tokens and whole.bits != cut.bits


def test_agrees_with_transformers(tokenizer, texts, tmp_path):
    from transformers import LlamaForCausalLM

    llm = LLM(Model(ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=64), seed=2), tokenizer)
    llm.save(tmp_path)
    peer = LlamaForCausalLM.from_pretrained(tmp_path)
    rows = [tokenizer.encode_document(text) for text in texts]
    for row, scores in zip(rows, score_tokens(llm, rows), strict=True):
        with torch.no_grad():
            logits = peer(torch.tensor([row])).logits[0, :-1]
        theirs = torch.log_softmax(logits, -1).gather(1, torch.tensor(row[1:])[:, None])[:, 0]
        assert scores == pytest.approx(theirs.tolist(), abs=1e-4)


def test_nfd_text_costs_what_nfc_text_costs(llm):
    assert bits_per_byte(llm, ["한옥"]).bits == bits_per_byte(llm, ["한옥"]).bits


def test_users_mistakes(llm):
    with pytest.raises(UsageError, match="no text to measure"):
        bits_per_byte(llm, ["", ""])
    with pytest.raises(UsageError, match="window must be from 2"):
        bits_per_byte(llm, ["text"], window=1000)
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        bits_per_byte(LLM(llm.model), ["text"])
