"""OLMo 2: norms over the whole of queries and of (fewer) keys, biases, tied and untied."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "eos_token_id": 2,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "num_key_value_heads": 2},
    {"attention_bias": True, "num_key_value_heads": 3},
    {"head_dim": 10, "num_key_value_heads": 1, "rms_norm_eps": 1e-4},
    {"hidden_act": "gelu", "num_attention_heads": 3},
    {"rope_parameters": {"rope_theta": 1e5, "rope_type": "linear", "factor": 2.0}, "num_hidden_layers": 1},
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
