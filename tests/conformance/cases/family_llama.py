"""LLaMA: tied and untied, biases, head sizes of their own, and two ways to stretch positions."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_theta": 5e5,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES = [
    {},
    {"tie_word_embeddings": True},
    {"attention_bias": True, "mlp_bias": True, "head_dim": 24},
    {"num_key_value_heads": 4, "rms_norm_eps": 1e-5},
    {"rope_parameters": LLAMA3},
    {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}},
]
