"""Falcon: the styles of 7B, 40B, 11B and RW, and what lies between them."""

BASE = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NEW = {"new_decoder_architecture": True}
CASES = [
    {},
    {"num_attention_heads": 3, "bias": True, "tie_word_embeddings": False, "ffn_hidden_size": 77},
    {"multi_query": False, "layer_norm_epsilon": 1e-3},
    {"parallel_attn": False, "activation": "gelu_new"},
    {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True, "num_attention_heads": 4},
    {"alibi": True, "num_attention_heads": 3},
    NEW | {"num_kv_heads": 2, "tie_word_embeddings": False},
    NEW | {"num_kv_heads": 3, "num_ln_in_parallel_attn": 1, "bias": True},
    NEW | {"num_kv_heads": 1, "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
    NEW | {"num_attention_heads": 4, "alibi": True, "num_kv_heads": 2},
]
