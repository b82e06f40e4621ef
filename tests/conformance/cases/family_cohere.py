"""Command R: with and without normed heads, tied and untied, odd heads, biases, bases and scalings of positions."""

BASE = {
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {"use_qk_norm": True, "num_attention_heads": 6, "num_key_value_heads": 3, "logit_scale": 0.3},
    {"attention_bias": True, "tie_word_embeddings": False, "layer_norm_eps": 1e-3, "hidden_act": "gelu"},
    {
        "use_qk_norm": True,
        "num_attention_heads": 3,
        "num_key_value_heads": None,
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 8e6},
        "logit_scale": 1.0,
    },
]
