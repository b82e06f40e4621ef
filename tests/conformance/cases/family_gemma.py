"""Gemma: one shared key head or several, tied and untied, the activation's old name and others."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "head_dim": 12,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {"tie_word_embeddings": False, "num_key_value_heads": 3},
    {"attention_bias": True, "head_dim": 8},
    {"hidden_act": "gelu", "hidden_size": 50, "num_attention_heads": 5, "num_key_value_heads": 5},
    {"hidden_act": "silu", "rms_norm_eps": 1e-4},
    {"rope_parameters": {"rope_theta": 1e5, "rope_type": "linear", "factor": 2.0}, "num_hidden_layers": 1},
]
