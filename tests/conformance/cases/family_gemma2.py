"""Gemma 2: patterns of windows, bounds on scores and logits or none, the scale of scores."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "sliding_window": 9,
    "query_pre_attn_scalar": 24,
}
CASES = [
    {},
    {"tie_word_embeddings": False, "num_key_value_heads": 3, "attn_logit_softcapping": 2.0},
    {"attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True},
    {"final_logit_softcapping": 1.5, "query_pre_attn_scalar": 7, "num_hidden_layers": 4},
    {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "num_attention_heads": 4},
    {"layer_types": ["sliding_attention"] * 3, "num_key_value_heads": 1},
    {"layer_types": ["full_attention"] * 3, "num_key_value_heads": 6, "rms_norm_eps": 1e-4},
    {"rope_parameters": {"rope_theta": 1e5, "rope_type": "linear", "factor": 2.0}, "sliding_window": 1},
    {
        "rope_parameters": {
            "rope_theta": 5e5,
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
]
