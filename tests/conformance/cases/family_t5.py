"""T5: plain and gated networks, odd heads, stacks of different depths, few buckets, logits that are not scaled."""

import torch

MODEL = "T5ForConditionalGeneration"
BASE = {
    "d_model": 40,
    "d_kv": 6,
    "d_ff": 56,
    "num_layers": 3,
    "num_heads": 5,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [
    {},
    {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2},
    {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "num_heads": 4},
    {"feed_forward_proj": "gated-silu", "num_layers": 1, "num_decoder_layers": 4},
    {"feed_forward_proj": "gelu", "layer_norm_epsilon": 1e-5},
    {"tie_word_embeddings": False, "feed_forward_proj": "gated-relu"},
]


def THEIRS(model, tokens):
    return model(input_ids=tokens.flip(1)[:, :23], decoder_input_ids=tokens).logits


def OURS(model, tokens):
    return model(tokens, source=tokens.flip(1)[:, :23])


def GREEDY(model, prompt, count):
    kept = [0]
    for _ in range(count):
        logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([kept])).logits
        kept.append(int(logits[0, -1].argmax()))
    return kept[1:]
