"""Gemma 3: five local layers to a global one or otherwise, each with its rotary base and scaling."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "sliding_window": 9,
    "query_pre_attn_scalar": 24,
}
PLAIN = {"rope_type": "default"}
CASES = [
    {},
    {"tie_word_embeddings": False, "num_key_value_heads": 3, "num_hidden_layers": 3, "sliding_window_pattern": 2},
    {
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 5e3, **PLAIN},
            "full_attention": {"rope_theta": 1e5, "rope_type": "linear", "factor": 8.0},
        }
    },
    {"layer_types": ["full_attention"] * 3, "num_hidden_layers": 3, "final_logit_softcapping": 2.0},
    {"layer_types": ["sliding_attention"] * 3, "num_hidden_layers": 3, "attention_bias": True, "sliding_window": 1},
    {
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention"] * 2,
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 500.0, **PLAIN},
            "full_attention": {"rope_theta": 7e3, **PLAIN},
        },
    },
    {
        "num_hidden_layers": 4,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 7,
        "num_attention_heads": 4,
        "rms_norm_eps": 1e-4,
    },
    {
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0},
            "full_attention": {"rope_theta": 1e6, **PLAIN},
        },
    },
    {
        "num_hidden_layers": 2,
        "sliding_window_pattern": 2,
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
            "full_attention": {
                "rope_theta": 1e5,
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    },
]
