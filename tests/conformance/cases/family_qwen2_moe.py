"""Qwen2-MoE: which layers are sparse, weights normalised or not, the shared expert, windows in every other layer."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 29,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}
CASES = [
    {},
    {"norm_topk_prob": True, "tie_word_embeddings": True, "num_key_value_heads": 3},
    {"decoder_sparse_step": 2, "num_hidden_layers": 5},
    {"mlp_only_layers": [0, 1], "qkv_bias": False, "num_hidden_layers": 5},
    {"mlp_only_layers": [1], "use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 4},
    {"decoder_sparse_step": 5, "num_experts_per_tok": 5},
    {"num_experts": 9, "num_experts_per_tok": 4, "head_dim": 10, "hidden_act": "gelu"},
    {
        "use_sliding_window": True,
        "sliding_window": 5,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "router_aux_loss_coef": 0.0,
    },
]
