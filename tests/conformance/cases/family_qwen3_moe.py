"""Qwen3-MoE: which layers are sparse, weights normalised or not, biases, a window for all layers."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}
CASES = [
    {},
    {"norm_topk_prob": True, "tie_word_embeddings": True, "num_key_value_heads": 3},
    {"decoder_sparse_step": 2, "num_hidden_layers": 5, "attention_bias": True},
    {"mlp_only_layers": [0], "num_hidden_layers": 2},
    {"use_sliding_window": True, "sliding_window": 9, "head_dim": 10},
    {"num_experts": 9, "num_experts_per_tok": 9, "rms_norm_eps": 1e-4},
    {"rope_parameters": {"rope_theta": 1e5, "rope_type": "linear", "factor": 2.0}, "num_attention_heads": 4},
]
