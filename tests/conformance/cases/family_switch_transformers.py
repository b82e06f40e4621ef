"""Switch Transformer: mixtures in every layer, every second, every third, in one stack alone; experts that overflow."""

import torch

MODEL = "SwitchTransformersForConditionalGeneration"
BASE = {
    "d_model": 40,
    "d_kv": 6,
    "d_ff": 56,
    "num_layers": 4,
    "num_decoder_layers": 3,
    "num_sparse_encoder_layers": 2,
    "num_sparse_decoder_layers": 1,
    "num_experts": 5,
    "num_heads": 5,
    "expert_capacity": 64,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CASES = [
    {},
    {"expert_capacity": 4, "num_experts": 3},
    {"num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 3, "dense_act_fn": "gelu_new"},
    {"num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 9},
    {"num_layers": 1, "num_sparse_encoder_layers": 2, "num_decoder_layers": 5, "num_sparse_decoder_layers": 2},
    {"num_heads": 3, "d_kv": 10, "num_experts": 1, "dense_act_fn": "silu", "router_aux_loss_coef": 0.01},
    {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "dense_act_fn": "gelu"},
]


def THEIRS(model, tokens):
    return model(input_ids=tokens.flip(1)[:, :23], decoder_input_ids=tokens).logits


def OURS(model, tokens):
    return model(tokens, source=tokens.flip(1)[:, :23])


def GREEDY(model, prompt, count):
    """Decode with the library's cache: there, as in the engine, an expert's capacity is counted in each step anew."""
    states = model.encoder(input_ids=torch.tensor([prompt]))
    kept, past = [0], None
    for _ in range(count):
        token = torch.tensor([kept[-1:]])
        out = model(encoder_outputs=states, decoder_input_ids=token, past_key_values=past, use_cache=True)
        past = out.past_key_values
        kept.append(int(out.logits[0, -1].argmax()))
    return kept[1:]
