"""Qwen3-Next: both kinds of layer by list and by interval, odd heads, partial and whole rope, dense layers, biases."""

BASE = {
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 6,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 24,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {
        "layer_types": ["full_attention", "linear_attention", "full_attention"],
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 12,
        "linear_num_key_heads": 3,
        "linear_num_value_heads": 3,
        "linear_conv_kernel_dim": 2,
        "attention_bias": True,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 1.0},
    },
    {"mlp_only_layers": [1], "norm_topk_prob": False, "rms_norm_eps": 1e-4, "num_experts_per_tok": 3},
    {"num_experts": 0, "layer_types": ["linear_attention"] * 2 + ["full_attention"] * 2, "hidden_act": "silu"},
    {"decoder_sparse_step": 2, "num_hidden_layers": 5, "full_attention_interval": 2, "head_dim": 40},
    {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e5,
            "partial_rotary_factor": 0.5,
            "factor": 2.0,
            "original_max_position_embeddings": 32,
        }
    },
    {"layer_types": ["full_attention"] * 2, "num_hidden_layers": 2, "num_key_value_heads": 4},
]
