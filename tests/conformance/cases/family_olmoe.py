"""OLMoE: norms over the whole of queries and of (fewer) keys, weights normalised or not, biases."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "eos_token_id": 2,
}
CASES = [
    {},
    {"norm_topk_prob": True, "tie_word_embeddings": True, "num_key_value_heads": 2},
    {"attention_bias": True, "num_key_value_heads": 3, "rms_norm_eps": 1e-4},
    {"num_experts": 5, "num_experts_per_tok": 1, "hidden_act": "gelu"},
    {"num_experts_per_tok": 8, "num_attention_heads": 3, "num_key_value_heads": 1},
    {"rope_parameters": {"rope_theta": 1e5, "rope_type": "linear", "factor": 2.0}, "num_hidden_layers": 1},
]
