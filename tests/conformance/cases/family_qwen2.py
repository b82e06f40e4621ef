"""Qwen2: biases on queries, keys and values; windows from a layer on, or as `layer_types` say."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "num_key_value_heads": 3},
    {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 28},
    {
        "use_sliding_window": True,
        "sliding_window": 5,
        "num_hidden_layers": 5,
        "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
    },
    {"head_dim": 10, "rms_norm_eps": 1e-5, "hidden_act": "gelu_pytorch_tanh"},
    {
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    },
    {
        "rope_parameters": {
            "rope_theta": 1e4,
            "rope_type": "yarn",
            "attention_factor": 1.3,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
]
