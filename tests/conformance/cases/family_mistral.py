"""Mistral: with and without windows, odd groups of heads, two ways to stretch positions."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "sliding_window": None,
}
CASES = [
    {},
    {"sliding_window": 7, "tie_word_embeddings": True},
    {"num_key_value_heads": 3, "head_dim": 10, "sliding_window": 33},
    {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 14, "hidden_act": "gelu"},
    {"num_key_value_heads": 6, "rms_norm_eps": 1e-4, "sliding_window": 1},
    {"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 3.0}, "num_hidden_layers": 1},
    {
        "rope_parameters": {
            "rope_theta": 1e4,
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
]
