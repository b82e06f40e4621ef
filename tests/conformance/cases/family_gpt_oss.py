"""GPT-OSS: sinks, windows in every other layer or otherwise, YaRN or none, bounds that are reached."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "sliding_window": 9,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "num_key_value_heads": 3, "num_experts_per_tok": 1},
    {"attention_bias": False, "head_dim": 10, "swiglu_limit": 0.05, "swiglu_alpha": 1.1},
    {"layer_types": ["full_attention", "full_attention", "sliding_attention"], "num_local_experts": 7},
    {"layer_types": ["sliding_attention"] * 3, "sliding_window": 1, "num_experts_per_tok": 5},
    {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}, "num_hidden_layers": 2},
    {
        "rope_parameters": {
            "rope_theta": 15e4,
            "rope_type": "yarn",
            "factor": 8.0,
            "beta_fast": 16.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 16,
        }
    },
]
