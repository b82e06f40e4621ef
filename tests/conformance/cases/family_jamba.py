"""Jamba: both periods, tied and untied, without experts, without attention, every bias."""

BASE = {
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_layer_period": 3,
    "attn_layer_offset": 1,
    "num_experts": 4,
    "max_position_embeddings": 128,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "mamba_d_state": 5, "mamba_d_conv": 3, "mamba_dt_rank": 3},
    {"num_experts": 1, "num_experts_per_tok": 1, "mamba_proj_bias": True, "rms_norm_eps": 1e-4},
    {
        "attn_layer_period": 8,
        "attn_layer_offset": 2,
        "expert_layer_period": 3,
        "expert_layer_offset": 0,
        "num_hidden_layers": 3,
    },
    {"num_experts": 6, "num_experts_per_tok": 3, "mamba_conv_bias": False, "num_key_value_heads": 4},
    {"attn_layer_period": 1, "attn_layer_offset": 0, "num_hidden_layers": 2, "mamba_expand": 3},
]
