"""Qwen3: normalised queries and keys, heads of their own size, biases, windows."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "num_key_value_heads": 3, "head_dim": 8},
    {"attention_bias": True, "rms_norm_eps": 1e-4},
    {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
    {
        "use_sliding_window": True,
        "sliding_window": 5,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    },
    {"num_attention_heads": 5, "num_key_value_heads": 5, "hidden_size": 30, "head_dim": 16},
    {"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 2.0}},
    {"rope_parameters": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 4.0}},
]
