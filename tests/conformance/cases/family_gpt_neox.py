"""GPT-NeoX: parallel branches or not, parts of heads rotated, scaled positions, no biases, tied and untied."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {"use_parallel_residual": False, "tie_word_embeddings": True, "num_attention_heads": 6},
    {"attention_bias": False, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 1.0}},
    {"hidden_act": "gelu_new", "hidden_size": 50, "num_attention_heads": 5},
    {"num_attention_heads": 1, "layer_norm_eps": 1e-3, "hidden_act": "relu"},
    {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 32,
            "partial_rotary_factor": 0.5,
        }
    },
]
