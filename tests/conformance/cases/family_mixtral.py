"""Mixtral: few and many experts, one to all of them chosen, windows."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "num_local_experts": 4,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "num_local_experts": 7, "num_experts_per_tok": 3},
    {"num_experts_per_tok": 1, "num_key_value_heads": 3, "head_dim": 10},
    {"num_experts_per_tok": 4, "sliding_window": 9, "hidden_act": "gelu"},
    {"num_local_experts": 1, "num_experts_per_tok": 1, "num_hidden_layers": 1},
    {"rope_parameters": {"rope_theta": 1e5, "rope_type": "linear", "factor": 2.0}, "router_aux_loss_coef": 0.02},
    {
        "head_dim": 8,
        "rope_parameters": {
            "rope_theta": 1e4,
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
]
