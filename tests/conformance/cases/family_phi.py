"""Phi: norms of queries and keys, groups, parts of heads rotated, tied with a bias."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
}
CASES = [
    {},
    {"qk_layernorm": True, "num_attention_heads": 6, "num_key_value_heads": 2, "layer_norm_eps": 1e-3},
    {"tie_word_embeddings": True, "partial_rotary_factor": 0.25},
    {"hidden_size": 50, "num_attention_heads": 5, "partial_rotary_factor": 0.4, "hidden_act": "gelu"},
    {"num_attention_heads": 1, "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 1.0}},
    {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    {
        "qk_layernorm": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.5,
        },
    },
]
