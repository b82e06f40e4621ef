"""DeepSeek-V2: experts chosen freely and within groups, with and without a low-rank query, biases, YaRN."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 128,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
}
CASES = [
    {},
    {"q_lora_rank": None, "tie_word_embeddings": True, "n_shared_experts": 1},
    {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "routed_scaling_factor": 16.0},
    {"attention_bias": True, "first_k_dense_replace": 0},
    {"num_attention_heads": 6, "v_head_dim": 5, "first_k_dense_replace": 2},
    {"rope_parameters": YARN},
]
